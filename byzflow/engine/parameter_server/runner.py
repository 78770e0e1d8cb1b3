"""A server over plain functions that return gradients: a prototype of the reference, on `ParameterServer`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from byzflow.aggregators.average import Average
from byzflow.engine.node.actors import HonestNodeActor, Recipe
from byzflow.engine.node.sync import run_sync
from byzflow.engine.parameter_server.ps import ParameterServer

__all__ = ("FunctionRule", "ParameterServerRunner")


class FunctionRule:
    """A rule from a function of the rows.

    Examples
    --------
    >>> FunctionRule(max).aggregate([1.0, 3.0, 2.0])
    3.0
    """

    def __init__(self, function: Callable[[Sequence[Any]], Any]) -> None:
        self._function = function

    @classmethod
    def of(cls, aggregator: Any) -> Any:
        """Return a rule for a rule, a function, or None, which is the mean."""
        if aggregator is None:
            return Average()
        return aggregator if hasattr(aggregator, "aggregate") else cls(aggregator)

    def aggregate(self, gradients: Sequence[Any]) -> Any:
        """Return what the function returns."""
        return self._function(gradients)


class _Worker:
    def __init__(self, gradient: Callable[[], Any]) -> None:
        self._gradient = gradient

    def honest_gradient_for_next_batch(self) -> Any:
        return self._gradient()

    def apply_server_gradient(self, gradient: Any) -> None:
        """A function has no model to update."""


class ParameterServerRunner:
    """Rounds over functions that return gradients.

    Parameters
    ----------
    worker_grad_fns : sequence of callable
        One for each node.
    aggregator : Aggregator or callable, optional
        A rule, or a function of the list of gradients; the mean by default.
    transport : str, Client or Cluster, optional
        The backend of the nodes; ``"process"`` by default.

    Examples
    --------
    >>> import torch
    >>> runner = ParameterServerRunner([lambda: torch.ones(2), lambda: torch.zeros(2)], transport="thread")
    >>> runner.start()
    >>> runner.run_round()
    tensor([0.5000, 0.5000])
    >>> runner.stop()
    """

    def __init__(
        self, worker_grad_fns: Sequence[Callable[[], Any]], aggregator: Any = None, *, transport: Any = None
    ) -> None:
        self._recipes = [Recipe(_Worker, (function,)) for function in worker_grad_fns]
        self._rule = FunctionRule.of(aggregator)
        self._backend = "process" if transport is None else transport
        self._server: ParameterServer | None = None

    def start(self) -> None:
        """Put the functions into workers; again is the same as once."""
        if self._server is None:
            nodes = run_sync(HonestNodeActor.spawn_many(self._recipes, backend=self._backend))
            self._server = ParameterServer(nodes, None, self._rule)

    def run_round(self) -> Any:
        """Call every function once and return the aggregate.

        Raises
        ------
        RuntimeError
            Before `start` and after `stop`.
        """
        if self._server is None:
            raise RuntimeError("run_round() needs a runner that is started; this one is not. Call start().")
        return self._server.round_sync()

    def stop(self) -> None:
        """Forget the workers; again is the same as once."""
        server, self._server = self._server, None
        if server is not None:
            run_sync(server.shutdown())
