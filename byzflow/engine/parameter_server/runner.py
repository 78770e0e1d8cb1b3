"""A server over plain functions that return gradients: a prototype of the reference, on `ParameterServer`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from byzflow.aggregators.average import Average
from byzflow.engine.node.actors import HonestNodeActor, Recipe
from byzflow.engine.node.sync import run_sync
from byzflow.engine.parameter_server.correspondence import Correspondent, Desk, serve_gradients
from byzflow.engine.parameter_server.ps import ParameterServer
from byzflow.engine.transport.base import Transport

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
    worker_grad_fns : sequence of callable or str
        One for each node; with a transport also the name of a worker that another program has there, see
        `serve_gradients`.
    aggregator : Aggregator or callable, optional
        A rule, or a function of the list of gradients; the mean by default.
    transport : Transport, optional
        Carries requests and gradients between ``"server"`` and the workers, ``"w0"``, ``"w1"`` and so on.
    backend : str, Client or Cluster, default "process"
        Where the functions run.

    Examples
    --------
    >>> import torch
    >>> runner = ParameterServerRunner([lambda: torch.ones(2), lambda: torch.zeros(2)], backend="thread")
    >>> runner.start()
    >>> runner.run_round()
    tensor([0.5000, 0.5000])
    >>> runner.stop()
    """

    def __init__(
        self,
        worker_grad_fns: Sequence[Callable[[], Any] | str],
        aggregator: Any = None,
        *,
        transport: Transport | None = None,
        backend: Any = "process",
    ) -> None:
        self.server_id = "server"
        self.worker_ids = [f"w{i}" if callable(one) else one for i, one in enumerate(worker_grad_fns)]
        self._functions = {
            name: one for name, one in zip(self.worker_ids, worker_grad_fns, strict=True) if callable(one)
        }
        self._rule = FunctionRule.of(aggregator)
        self._backend = backend
        self._workers: dict[str, HonestNodeActor] = {}
        self._server: ParameterServer | None = None
        self._desk: Desk | None = None
        if transport is not None:
            self._desk = Desk(transport, self.server_id)
            for name in self._functions:
                serve_gradients(transport, name, partial(self._gradient, name), server_id=self.server_id)
        elif len(self._functions) < len(self.worker_ids):
            raise ValueError(
                f"Without a transport each worker is a function; got {self.worker_ids}. Pass transport=."
            )

    def start(self) -> None:
        """Put the functions into workers; again is the same as once."""
        if self._server is None:
            recipes = [Recipe(_Worker, (function,)) for function in self._functions.values()]
            workers = run_sync(HonestNodeActor.spawn_many(recipes, backend=self._backend))
            self._workers = dict(zip(self._functions, workers, strict=True))
            nodes: Sequence[Any] = workers
            if self._desk is not None:
                nodes = [Correspondent(self._desk, name) for name in self.worker_ids]
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
        workers, self._workers = self._workers, {}
        if server is not None:
            run_sync(server.shutdown())
            run_sync(HonestNodeActor.close_many(list(workers.values())))

    def _gradient(self, name: str) -> Any:
        return run_sync(self._workers[name].honest_gradient_for_next_batch())
