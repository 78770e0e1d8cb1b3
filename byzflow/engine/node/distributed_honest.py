"""An honest node whose own computations run as pipelines on a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from byzflow.engine.graph.ops import CallableOp
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.engine.node.application import HonestNodeApplication
from byzflow.engine.node.base import HonestNode

__all__ = ("DistributedHonestNode",)


class DistributedHonestNode(HonestNode):
    """An honest node with an aggregation and a gradient pipeline.

    A subclass defines ``local_honest_gradient(*, x, y)``, ``next_batch`` and ``apply_server_gradient``.

    Parameters
    ----------
    actor_pool : ActorPool or sequence of ActorPoolConfig
        Where the pipelines run.
    aggregator : Aggregator
        The rule of the aggregation pipeline.
    metadata : mapping, optional
        For every operator.
    name : str, optional
        Default: the name of the class.

    Examples
    --------
    >>> import numpy as np
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> class Node(DistributedHonestNode):
    ...     def next_batch(self):
    ...         return np.ones(2), None
    ...     def local_honest_gradient(self, *, x, y):
    ...         return 3 * x
    ...     def apply_server_gradient(self, vec):
    ...         pass
    >>> node = Node(actor_pool=[ActorPoolConfig("thread")], aggregator=CoordinateWiseMedian())
    >>> node.honest_gradient_for_next_batch()
    array([3., 3.])
    """

    __slots__ = ("application",)  # made with the node, and no part of the state that it is brought back with

    def __init__(
        self,
        *,
        actor_pool: ActorPool | Sequence[ActorPoolConfig],
        aggregator: Any,
        metadata: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        self.application = HonestNodeApplication(
            name=name or type(self).__name__, actor_pool=actor_pool, metadata=metadata
        )
        gradient = CallableOp(self.local_honest_gradient, input_mapping={"x": "x", "y": "y"})
        self.application.register_operator(self.application.GRADIENT_PIPELINE, gradient, ("x", "y"))
        self.application.register_operator(self.application.AGGREGATION_PIPELINE, aggregator, ("gradients",))

    @property
    def pool(self) -> ActorPool:
        """The pool of the pipelines."""
        return self.application.pool

    def local_honest_gradient(self, *, x: Any, y: Any) -> Any:
        """Return the gradient on a batch, shape ``(d,)``."""
        raise NotImplementedError(f"{type(self).__name__} must define local_honest_gradient(*, x, y).")

    def honest_gradient(self, x: Any, y: Any) -> Any:
        """Run the gradient pipeline on a batch; works inside a running loop too."""
        return self.application.honest_gradient_sync({"x": x, "y": y})

    async def aggregate(self, gradients: Sequence[Any]) -> Any:
        """Run the aggregation pipeline on vectors."""
        return await self.application.aggregate(gradients=gradients)

    def aggregate_sync(self, gradients: Sequence[Any]) -> Any:
        """Run the aggregation pipeline from plain code; works inside a running loop too."""
        return self.application.aggregate_sync(gradients=gradients)

    async def shutdown_distributed(self) -> None:
        """Shut the pool down."""
        await self.application.shutdown()
