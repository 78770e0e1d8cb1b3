"""A server that starts in a step of its own: a prototype of the reference, on `ParameterServer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from byzflow.engine.parameter_server.ps import ParameterServer
from byzflow.engine.parameter_server.runner import FunctionRule

__all__ = ("DecentralizedParameterServer",)


class DecentralizedParameterServer(ParameterServer):
    """A `ParameterServer` whose rule may be a function of the list of gradients.

    Parameters
    ----------
    honest_nodes, byzantine_nodes, aggregator
        As for `ParameterServer`; Byzantine nodes take part.

    Examples
    --------
    >>> import asyncio, torch
    >>> class Node:
    ...     def honest_gradient_for_next_batch(self):
    ...         return torch.ones(2)
    ...     def apply_server_gradient(self, g): ...
    >>> async def example():
    ...     async with DecentralizedParameterServer([Node(), Node()], None, sum) as server:
    ...         await server.bootstrap()
    ...         return await server.round()
    >>> asyncio.run(example())
    tensor([2., 2.])
    """

    def __init__(
        self, honest_nodes: Sequence[Any], byzantine_nodes: Sequence[Any] | None, aggregator: Any
    ) -> None:
        super().__init__(honest_nodes, byzantine_nodes, FunctionRule.of(aggregator))

    async def bootstrap(self) -> None:
        """Make sure that the nodes are there: spawned nodes are since they were spawned."""
