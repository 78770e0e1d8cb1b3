"""One run of a graph: steps start when what they read is there, each where its work is done best."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from distributed import Future

from byzflow.engine.graph.graph import ComputationGraph, GraphNode, MessageSource
from byzflow.engine.graph.inputs import arrived, compute_all, has_futures, received
from byzflow.engine.graph.partition import Step, partition
from byzflow.engine.graph.submit import Cluster, is_small
from byzflow.kernels.intake import as_rows
from byzflow.kernels.rows import Rows
from byzflow.operators.lazy import is_lazy, lazy_rows
from byzflow.operators.together import together

if TYPE_CHECKING:
    from byzflow.engine.graph.scheduler import NodeScheduler

__all__ = ("Run",)

_NOTICED = 1 << 18
"""Rules on more than this would keep the event loop from its other work [matrix elements]."""


@dataclass
class Run:
    """The state of one run.

    Attributes
    ----------
    scheduler : NodeScheduler
        Resolves inputs and makes contexts.
    graph : ComputationGraph
    cluster : Cluster or None
        Where rules on large rows, and on rows that lie there, are evaluated.
    compute : bool
        Whether values are wanted; else futures.
    cache : dict of str to Any
        Graph inputs and the values of the nodes that are done.
    """

    scheduler: NodeScheduler
    graph: ComputationGraph
    cluster: Cluster | None
    compute: bool
    cache: dict[str, Any]

    async def all(self) -> dict[str, Any]:
        """Run every step; the first failure stops the others and is raised as it is."""
        steps = self._steps()
        if len(steps) == 1:
            await self._step(steps[0])
        else:
            await self._side_by_side(steps)
        return {name: await self._output(self.cache[name]) for name in self.graph.outputs}

    def _steps(self) -> list[Step]:
        """Join rules only where that leads to one submission, or one pass over a dask array."""
        if self.cluster is None and not any(is_lazy(value) for value in self.cache.values()):
            return [Step((node,)) for node in self.graph.nodes_in_order()]
        return partition(self.graph)

    async def _side_by_side(self, steps: list[Step]) -> None:
        done = {name: asyncio.Event() for step in steps for name in step.names}

        async def follow(step: Step) -> None:
            for parent in step.parents:
                await done[parent].wait()
            await self._step(step)
            for name in step.names:
                done[name].set()

        await together(map(follow, steps))

    async def _step(self, step: Step) -> None:
        first = step.nodes[0]
        resolved = self.scheduler._resolve_inputs(first, self.cache)
        inputs = await resolved if inspect.isawaitable(resolved) else resolved
        for argument, source in first.inputs.items():
            if isinstance(source, MessageSource):
                inputs[argument] = await received(inputs[argument], self.cluster)
        if step.source is None:
            self.cache[first.name] = await self._node(first, inputs)
            return
        ((argument, value),) = inputs.items()
        self.cache.update(await self._rules(step, argument, value))

    async def _node(self, node: GraphNode, inputs: dict[str, Any]) -> Any:
        inputs = {argument: await arrived(value, self.cluster) for argument, value in inputs.items()}
        return await self.scheduler._execute(node, inputs, self.scheduler.pool)

    async def _rules(self, step: Step, argument: str, value: Any) -> dict[str, Any]:
        """Run a step of rules, the first of which reads `value` as `argument`."""
        wanted = self._wanted(step)
        if is_lazy(value):
            return await self._lazily(step, value if value.ndim > 1 else value[None, :], wanted)
        if self.cluster is not None and has_futures(value):
            return await self._evaluated(self.cluster, step.graph(wanted), value)
        rows = as_rows(step.nodes[0].op.vectors({argument: value}))
        if self.cluster is None or is_small(rows.n, rows.d):
            work = partial(self._in_place, step, value)
            return await asyncio.to_thread(work) if rows.n * rows.d > _NOTICED else work()
        self._check(step, rows.n)
        return await self._evaluated(self.cluster, step.graph(wanted), value, rows)

    async def _evaluated(
        self, cluster: Cluster, graph: ComputationGraph, value: Any, rows: Rows | None = None
    ) -> dict[str, Any]:
        plans = self.scheduler.plans
        return await cluster.evaluate(graph, value, compute=self.compute, rows=rows, plans=plans)

    def _in_place(self, step: Step, value: Any) -> dict[str, Any]:
        """Run rules in this process."""
        values: dict[str, Any] = {}
        for node in step.nodes:
            ((argument, source),) = node.inputs.items()
            given = values[source] if isinstance(source, str) and source in values else value
            values[node.name] = node.op.compute({argument: given}, context=self.scheduler._context(node))
        return values

    async def _lazily(self, step: Step, rows: Any, wanted: frozenset[str]) -> dict[str, Any]:
        """Build the answers as dask arrays, then compute those that are wanted together."""
        answers: dict[str, Any] = {}
        for node in step.nodes:
            ((_, source),) = node.inputs.items()
            given = answers[source] if isinstance(source, str) and source in answers else rows
            answers[node.name] = node.op.finish(
                lazy_rows(node.op, given if given.ndim > 1 else given[None, :])
            )
        names = sorted(wanted)
        lazy = [answers[name] for name in names]
        if self.compute:
            return dict(zip(names, await compute_all(lazy, self.cluster), strict=True))
        assert self.cluster is not None
        return dict(zip(names, await self.cluster.start(lazy), strict=True))

    def _wanted(self, step: Step) -> frozenset[str]:
        """Return the nodes of a step whose values somebody else reads."""
        others = (node for node in self.graph.nodes_in_order() if node.name not in step.names)
        read = {parent for node in others for parent in node.parents}
        return frozenset(name for name in step.names if name in read or name in self.graph.outputs)

    @staticmethod
    def _check(step: Step, n: int) -> None:
        for node in step.nodes:
            if not any(parent in step.names for parent in node.parents):
                node.op.check(n)

    async def _output(self, value: Any) -> Any:
        if self.compute or isinstance(value, Future):
            return value
        assert self.cluster is not None
        return await self.cluster.place(value)
