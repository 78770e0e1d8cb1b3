"""A scheduler with limits on how much is under way."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from byzflow.engine.graph.gate import Gate
from byzflow.engine.graph.graph import ComputationGraph, GraphNode
from byzflow.engine.graph.scheduler import NodeScheduler
from byzflow.operators.base import Pool

__all__ = ("ParallelScheduler",)


class ParallelScheduler(NodeScheduler):
    """A `NodeScheduler` (which runs independent nodes together anyway) that can be held back.

    Parameters
    ----------
    graph, pool, metadata
        As for `NodeScheduler`.
    max_concurrent_nodes : int, optional
        Nodes that run at the same time.
    max_pending_subtasks : int, optional
        Subtasks of all nodes that are under way at the same time; default: eight for each worker of the pool.
        0 sets no limit.

    Examples
    --------
    >>> import asyncio
    >>> from byzflow.engine.graph.ops import CallableOp, make_single_operator_graph
    >>> op = CallableOp(lambda x: x + 1, input_mapping={"x": "x"})
    >>> graph = make_single_operator_graph(node_name="next", operator=op, input_keys=["x"])
    >>> asyncio.run(ParallelScheduler(graph, max_concurrent_nodes=1).run({"x": 1}))
    {'next': 2}
    """

    def __init__(
        self,
        graph: ComputationGraph,
        *,
        pool: Pool | None = None,
        metadata: Mapping[str, Any] | None = None,
        max_concurrent_nodes: int | None = None,
        max_pending_subtasks: int | None = None,
    ) -> None:
        super().__init__(graph, pool=pool, metadata=metadata)
        if max_concurrent_nodes is not None and max_concurrent_nodes < 1:
            raise ValueError(
                f"max_concurrent_nodes must be at least 1; got {max_concurrent_nodes}. Raise it."
            )
        if max_pending_subtasks is None and pool is not None:
            max_pending_subtasks = 8 * pool.size
        self.max_concurrent_nodes = max_concurrent_nodes
        self.max_pending_subtasks = max_pending_subtasks
        self._gate = Gate(max_concurrent_nodes) if max_concurrent_nodes else nullcontext()
        if max_pending_subtasks:
            self.metadata["subtask_semaphore"] = Gate(max_pending_subtasks)

    async def _execute(self, node: GraphNode, inputs: Mapping[str, Any], pool: Pool | None) -> Any:
        async with self._gate:
            return await super()._execute(node, inputs, pool)
