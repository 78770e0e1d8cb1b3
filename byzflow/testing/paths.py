"""Every way in which one operator can be run on the same rows; all have to give the same bits."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
import torch

from byzflow.aggregators.base import Aggregator
from byzflow.attacks.base import Attack
from byzflow.kernels.sheets import Sheets
from byzflow.operators.base import OpContext, Operator, SubTask
from byzflow.pre_aggregators.base import PreAggregator

__all__ = ("PATHS", "ClusterPath", "Path", "inputs_of", "run_dask_array", "run_eager")

Path = Callable[[Operator, Sequence[Any]], Any]


def inputs_of(op: Operator, vectors: Any) -> dict[str, Any]:
    """Return the named inputs that an operator takes when it is given rows.

    Examples
    --------
    >>> from byzflow.attacks import EmpireAttack
    >>> list(inputs_of(EmpireAttack(), [np.ones(2)]))
    ['honest_grads']
    """
    if isinstance(op, Attack):
        wanted = {
            "honest_grads": (op.uses_honest_grads, vectors),
            "base_grad": (op.uses_base_grad, vectors[0]),
        }
        return {name: value for name, (uses, value) in wanted.items() if uses}
    key = getattr(op, "input_key", "gradients")
    return {key: vectors}


def run_eager(op: Operator, vectors: Any) -> Any:
    """Call the operator as a user does: ``aggregate``, ``pre_aggregate`` or ``apply``.

    Examples
    --------
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> run_eager(CoordinateWiseMedian(), [np.ones(2)] * 3)
    array([1., 1.])
    """
    if isinstance(op, Aggregator):
        return op.aggregate(vectors)
    if isinstance(op, PreAggregator):
        return op.pre_aggregate(vectors)
    if isinstance(op, Attack):
        return op.apply(**inputs_of(op, vectors))
    raise TypeError(
        f"Needs an Aggregator, a PreAggregator or an Attack; got {type(op).__name__}. Subclass one of them."
    )


def _settle(work: Callable[[], Any]) -> Any:
    """Call `work` on an event loop of its own thread, and await what it returns if that is awaitable."""

    async def main() -> Any:
        value = work()
        return await value if inspect.isawaitable(value) else value

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, main()).result()


class _InlinePool:
    """A pool of four that runs every subtask at once, in place."""

    size = 4

    async def run_subtask(self, subtask: SubTask) -> Any:
        value = subtask.fn(*subtask.args, **dict(subtask.kwargs))
        return await value if inspect.isawaitable(value) else value

    async def run_many(self, subtasks: Sequence[SubTask]) -> list[Any]:
        return [await self.run_subtask(subtask) for subtask in subtasks]


def _run_subtasks(op: Operator, vectors: Sequence[Any]) -> Any:
    inputs = inputs_of(op, vectors)
    context = OpContext(node_name="check", metadata={"pool_size": 3})
    partials = [t.fn(*t.args, **dict(t.kwargs)) for t in op.create_subtasks(inputs, context=context)]
    if not partials:
        return _settle(lambda: op.compute(inputs, context=context))
    return _settle(lambda: op.reduce_subtasks(partials, inputs, context=context))


def _run_pool(op: Operator, vectors: Sequence[Any]) -> Any:
    context = OpContext(node_name="check", metadata={"pool_size": _InlinePool.size})
    return _settle(lambda: op.run(inputs_of(op, vectors), context=context, pool=_InlinePool()))


def _run_graph(op: Operator, vectors: Sequence[Any]) -> Any:
    return _settle(lambda: _graph_once(op, vectors, None))


async def _graph_once(op: Operator, vectors: Sequence[Any], pool: Any) -> Any:
    from byzflow.engine.graph.ops import make_single_operator_graph
    from byzflow.engine.graph.scheduler import NodeScheduler

    inputs = inputs_of(op, vectors)
    graph = make_single_operator_graph(node_name="rule", operator=op, input_keys=tuple(inputs))
    return (await NodeScheduler(graph, pool=pool).run(inputs))["rule"]


def _run_sheets(op: Operator, vectors: Sequence[Any]) -> Any:
    """Run eagerly on rows that lie in two matrices, those with odd numbers in the first."""
    kind, half = type(vectors[0]), len(vectors) // 2
    if half == 0 or kind not in (np.ndarray, torch.Tensor) or len({(v.dtype, v.shape) for v in vectors}) > 1:
        return run_eager(op, vectors)
    parts = (list(vectors[1::2]), list(vectors[::2]))
    places = np.array([i // 2 + (0 if i % 2 else half) for i in range(len(vectors))])
    return run_eager(
        op, Sheets([np.stack(p) if kind is np.ndarray else torch.stack(p) for p in parts], places)
    )


PATHS: Mapping[str, Path] = {
    "sheets": _run_sheets,
    "subtasks": _run_subtasks,
    "pool": _run_pool,
    "graph": _run_graph,
}
"""The paths beside the eager one that need no cluster."""


def run_dask_array(op: Operator, X: np.ndarray, *, chunks: Any) -> Any:
    """Run the operator on an (n, d) dask array and compute what it returns.

    Examples
    --------
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> run_dask_array(CoordinateWiseMedian(), np.ones((3, 4)), chunks=(3, 2))
    array([1., 1., 1., 1.])
    """
    import dask.array as da

    lazy = run_eager(op, da.from_array(X, chunks=chunks))
    if not isinstance(lazy, da.Array):
        raise AssertionError(
            f"A dask array in gives a lazy dask array out; got {type(lazy).__name__}. "
            f"Do not compute while the graph is built."
        )
    return lazy.compute(scheduler="threads")


class ClusterPath:
    """The compiled graph on a cluster inside this process, kept between calls.

    Examples
    --------
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> with ClusterPath() as path:
    ...     path(CoordinateWiseMedian(), [np.ones(2)] * 3)
    array([1., 1.])
    """

    def __init__(self, backend: str = "thread", count: int = 2) -> None:
        from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig

        self._pool = ActorPool([ActorPoolConfig(backend=backend, count=count)])
        self._runner = asyncio.Runner()
        self._thread = ThreadPoolExecutor(1, "byzflow-check")

    def __enter__(self) -> ClusterPath:
        self._wait(lambda: self._pool.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._wait(lambda: self._pool.shutdown())
        finally:
            self._thread.submit(self._runner.close).result()
            self._thread.shutdown()

    def __call__(self, op: Operator, vectors: Sequence[Any]) -> Any:
        """Run the operator on the cluster, however small the rows are."""
        import dask.config

        with dask.config.set({"byzflow.graph.in-place-below": 0, "byzflow.graph.shard-size": 1}):
            return self._wait(lambda: _graph_once(op, vectors, self._pool))

    def _wait(self, work: Callable[[], Any]) -> Any:
        async def main() -> Any:
            return await work()

        return self._thread.submit(lambda: self._runner.run(main())).result()
