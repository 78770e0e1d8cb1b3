"""Evaluate a step of rules on a Dask cluster: place the rows, submit the graph, fetch the answers."""

from __future__ import annotations

import asyncio
import math
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from distributed import Future, KilledWorker
from distributed.comm.core import CommClosedError

from byzflow.engine.actor.connection import ClientClosedError
from byzflow.engine.actor.fetching import fetched
from byzflow.engine.actor.vec import unwrap, wrap
from byzflow.engine.config import setting
from byzflow.engine.graph import shards as work
from byzflow.engine.graph.compile import Compiled, compile_graph
from byzflow.engine.graph.graph import ComputationGraph
from byzflow.engine.graph.layers import Key, Pieces, Sharded, Source, Whole
from byzflow.engine.graph.partition import ROWS
from byzflow.engine.graph.waves import waves
from byzflow.exceptions import NodeLostError
from byzflow.kernels.rows import Rows

if TYPE_CHECKING:
    from byzflow.engine.actor.runtime import Runtime

__all__ = ("Cluster", "is_small", "parts", "shard_count")

ATTEMPTS = 3
"""How often rows are placed again after the worker that held them was lost."""

HANDED_OUT = 20
"""Shards that a scheduler hands out, 0.25 ms each, while one of the least size is worked on, 5 ms."""

MANY_ROWS = 64
"""From this many rows on, their Gram matrix takes longer than to read them."""

_LOST = (CancelledError, CommClosedError, KilledWorker)


def parts(value: Any) -> Sequence[Any]:
    """Return the members of a list or tuple, or the value itself as the only one."""
    return value if isinstance(value, (list, tuple)) else (value,)


def is_small(n: int, d: int) -> bool:
    """Whether n rows of d columns are aggregated faster where they are than by asking a cluster.

    The limit is ``byzflow.graph.in-place-below`` [matrix elements].

    Examples
    --------
    >>> is_small(20, 1000)
    True
    """
    return n * d < int(setting("graph.in-place-below"))


def shard_count(elements: float, threads: int, rows: int = 1, *, apart: bool = False) -> int:
    """Return how many column shards rows are cut into: one per thread, but none too small to be worth it.

    The least size is ``byzflow.graph.shard-size`` [matrix elements]. A scheduler hands out tasks one after
    another: with k shards that takes k times as long as with one, and the work on a shard a k-th. The best k
    is where both are equal, or as many as there are threads.

    Parameters
    ----------
    elements : float
        In all rows.
    threads : int
        Of all workers.
    rows : int, default 1
        How many rows they are, if that is known; with more than 64 the work on an element grows with them.
    apart : bool, default False
        Whether each row lies elsewhere: then a shard is not two tasks but one more for each row and to join.

    Examples
    --------
    >>> shard_count(10_000_000, threads=4), shard_count(1000, threads=4)
    (4, 1)
    >>> shard_count(10**9, threads=1000), shard_count(10**9, threads=1000, rows=1000)
    (141, 559)
    >>> shard_count(10**9, threads=1000, rows=1000, apart=True)
    24
    """
    least = elements / int(setting("graph.shard-size"))
    tasks = 1 + (rows + 1) / 2 if apart else 1
    balanced = math.sqrt(HANDED_OUT * least * max(1, rows / MANY_ROWS) / tasks)
    return int(max(1, min(threads, least, balanced)))


@dataclass(frozen=True)
class Cluster:
    """A runtime, as a run of a graph uses it. Nothing is held between calls.

    Parameters
    ----------
    runtime : Runtime
        Whose client and workers to use.
    """

    runtime: Runtime

    async def evaluate(
        self,
        graph: ComputationGraph,
        value: Any,
        *,
        compute: bool,
        rows: Rows | None = None,
        plans: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Run a step's graph on its rows.

        Parameters
        ----------
        graph : ComputationGraph
            Rules that read `ROWS`.
        value : Any
            What they read: a value that is here, a future, or a list with futures of single vectors.
        compute : bool
            Whether to fetch the outputs.
        rows : Rows, optional
            The rows, if they are here.
        plans : dict, optional
            Where to note the plans by which computed outputs were made, if they are wanted.

        Returns
        -------
        dict of str to Any
            For each output its value, or a `distributed.Future` of it if not `compute`.

        Raises
        ------
        NodeLostError
            If workers that held the rows were lost again and again, futures were cancelled, or the client was
            closed.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._attempt(graph, value, rows, compute, plans)
            except _LOST as error:
                if rows is None or self.runtime.connection.is_closed:
                    raise self._lost(error) from error
                if attempt == ATTEMPTS:
                    raise NodeLostError(
                        f"The workers that hold the rows must live until the answer is there; they were lost "
                        f"{attempt} times ({error}). Check their memory, or add workers."
                    ) from error
        raise AssertionError("unreachable")

    def knows(self, future: Future[Any]) -> bool:
        """Whether a future lies here, not on the cluster of another scheduler."""
        theirs, ours = future.client.scheduler, self.runtime.client.scheduler
        return bool(theirs.address == ours.address)

    async def fetch(self, value: Any) -> Any:
        """Replace the futures in a value, or in a list, tuple or dict of values, by what they hold.

        Raises
        ------
        NodeLostError
            If they were cancelled, or lost with their workers.
        """
        try:
            return unwrap(await self.runtime.run(self._gather, value))
        except _LOST as error:
            raise self._lost(error) from error

    async def place(self, value: Any) -> Future[Any]:
        """Put a value on the cluster."""
        return await self.runtime.run(self._scatter_one, work.plain(value))

    async def start(self, collections: Sequence[Any]) -> list[Any]:
        """Start computing Dask collections; what is none stays as it is."""
        return await self.runtime.run(self._start, collections)

    def _lost(self, error: Exception) -> NodeLostError:
        if self.runtime.connection.is_closed:
            return ClientClosedError()
        return NodeLostError(
            "The futures that a graph reads must live until its answer is there; they were cancelled, or "
            f"lost with their workers ({error or type(error).__name__}). Keep them, or check their memory."
        )

    async def _attempt(
        self,
        graph: ComputationGraph,
        value: Any,
        rows: Rows | None,
        compute: bool,
        plans: dict[str, Any] | None,
    ) -> dict[str, Any]:
        planned = compute and plans is not None
        try:
            compiled, answers = await self.runtime.run(self._submit, graph, value, rows, compute, planned)
        except BaseException as error:
            # Futures hold the error, and its frames the futures: rows would stay on the cluster for long.
            traceback.clear_frames(error.__traceback__)
            raise
        if not compute:
            return {name: answers[keys[0]] for name, keys in compiled.outputs.items()}
        if plans is not None:
            plans.update({name: answers[key] for name, key in compiled.plans.items()})
            for name in compiled.paired:
                (key,) = compiled.outputs[name]
                answers[key], plans[name] = answers[key]
        return {
            name: _value(graph[name].op, [answers[key] for key in keys])
            for name, keys in compiled.outputs.items()
        }

    async def _submit(
        self, graph: ComputationGraph, value: Any, rows: Rows | None, compute: bool, planned: bool
    ) -> tuple[Compiled, dict[Any, Any]]:
        """Place, submit and fetch, on the client's loop."""
        client = self.runtime.client
        threads: dict[str, int] = await client.nthreads()
        source = await self._source(value, rows, threads)
        compiled = compile_graph(
            graph,
            {ROWS: source},
            token=uuid4().hex,
            workers=sorted(threads),
            gather=not compute,
            planned=planned,
        )
        held: dict[Key, Future[Any]] = {}
        for wave in waves(compiled.graph, compiled.keys):
            held.update(zip(wave.keys, client.get(wave.graph, list(wave.keys), sync=False), strict=True))
        futures = [held[key] for key in compiled.keys]
        answers = await self._gather(futures) if compute else futures
        return compiled, dict(zip(compiled.keys, answers, strict=True))

    async def _source(self, value: Any, rows: Rows | None, threads: Mapping[str, int]) -> Source:
        """Say where the rows lie, after putting them on the cluster if they are here."""
        if rows is not None:
            k = shard_count(rows.n * rows.d, sum(threads.values()), rows.n)
            if k == 1:
                return Whole(await self._scatter_one(wrap(value)))
            return await self._scatter_shards(rows, k, sorted(threads))
        futures = [part for part in parts(value) if isinstance(part, Future)]
        elements = await self._elements(futures)
        if isinstance(value, Future):
            return Whole(value, shard_count(elements, sum(threads.values())))
        k = shard_count(elements, sum(threads.values()), len(value), apart=True)
        vectors = [
            part if isinstance(part, Future) else await self._scatter_one(wrap(part)) for part in value
        ]
        return Pieces(tuple(vectors), k)

    async def _elements(self, futures: Sequence[Future[Any]]) -> float:
        """Return about how many numbers the futures hold; infinitely many if one is not there yet."""
        if not all(future.status == "finished" for future in futures):
            return math.inf
        sizes = await self.runtime.client.nbytes([future.key for future in futures], summary=False)
        return float(sum(sizes.values())) / 4

    async def _scatter_shards(self, rows: Rows, k: int, workers: Sequence[str]) -> Sharded:
        """Send shard i to worker i modulo their number."""
        parts = work.cut_rows(rows, k)
        lots = [parts[i :: len(workers)] for i in range(min(len(parts), len(workers)))]
        placed = await asyncio.gather(
            *(self._scatter(lot, workers=[worker]) for lot, worker in zip(lots, workers, strict=False))
        )
        futures: dict[int, Future[Any]] = {}
        for start, lot in enumerate(placed):
            futures.update(zip(range(start, len(parts), len(workers)), lot, strict=True))
        return Sharded(tuple(futures[i] for i in range(len(parts))))

    async def _scatter_one(self, value: Any) -> Future[Any]:
        return (await self._scatter([value]))[0]

    async def _scatter(self, values: list[Any], **options: Any) -> list[Future[Any]]:
        """Send values, all the way if that is cancelled: only with a future can the cluster let go of one."""
        sending = self.runtime.client.scatter(values, hash=False, asynchronous=True, **options)
        futures: list[Future[Any]] = await asyncio.shield(sending)
        return futures

    async def _start(self, collections: Sequence[Any]) -> list[Any]:
        return list(self.runtime.client.compute(list(collections)))

    async def _gather(self, value: Any) -> Any:
        return await fetched(lambda: self.runtime.client.gather(value, asynchronous=True))


def _value(op: Any, answers: list[Any]) -> Any:
    is_cut = any(isinstance(answer, work.Shard) or answer is None for answer in answers)
    return unwrap(work.gather(op, answers) if is_cut else answers[0])
