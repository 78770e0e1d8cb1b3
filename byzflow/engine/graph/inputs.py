"""Inputs that are not values yet: Dask futures, delayed values and dask arrays."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any

import dask.base
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import Task
from distributed import Client, Future

from byzflow.engine.actor.runtime import Runtime
from byzflow.engine.graph.submit import Cluster, parts
from byzflow.operators.lazy import is_lazy

__all__ = ("arrived", "compute_all", "has_futures", "open_cluster", "received", "started")


def has_futures(value: Any) -> bool:
    """Whether a value is a future, or a list or tuple with futures in it.

    Examples
    --------
    >>> has_futures([1, 2])
    False
    """
    return any(isinstance(part, Future) for part in parts(value))


def _futures(part: Any) -> Iterator[Future[Any]]:
    """Yield a future itself, or those that a Dask collection reads when it is computed."""
    if not dask.base.is_dask_collection(part):
        yield from (part,) if isinstance(part, Future) else ()
        return
    graph = part.__dask_graph__()
    layers = graph.layers.values() if isinstance(graph, HighLevelGraph) else [graph]
    waiting = [task for layer in layers if not isinstance(layer, Blockwise) for task in layer.values()]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Future):
            yield one
        elif isinstance(one, Task):
            waiting.extend((*one.args, *one.kwargs.values()))


def _is_pending(value: Any) -> bool:
    """Whether a value, or something in a list or tuple, has still to be computed by Dask."""
    return any(dask.base.is_dask_collection(part) for part in parts(value))


@asynccontextmanager
async def open_cluster(
    pool: Any, inputs: Mapping[str, Any], *, needed: bool = False
) -> AsyncIterator[Cluster | None]:
    """Find the cluster of a run: the pool's, else that of a future which is an input, or which one reads.

    If one is needed, or an input waits for Dask, the current client's cluster will do.
    """
    runtime = getattr(pool, "runtime", None)
    if runtime is not None:
        yield Cluster(runtime)
        return
    client = _client(inputs, needed)
    if client is None:
        yield None
        return
    async with _borrowed(client) as cluster:
        yield cluster


@asynccontextmanager
async def _borrowed(client: Client) -> AsyncIterator[Cluster]:
    runtime = await Runtime.acquire(client)
    try:
        yield Cluster(runtime)
    finally:
        await runtime.release()


def _client(inputs: Mapping[str, Any], needed: bool) -> Any:
    values = [part for value in inputs.values() for part in parts(value)]
    for part in values:
        for future in _futures(part):
            return future.client
    if not needed and not any(dask.base.is_dask_collection(part) for part in values):
        return None
    try:
        return Client.current()
    except ValueError:
        return None


async def started(value: Any, cluster: Cluster | None) -> Any:
    """Start what is delayed, and stack a list of dask arrays; an array stays lazy.

    Without a cluster a delayed value is computed by Dask's local scheduler. What lies on another cluster than
    that of the run is fetched from there.
    """
    if cluster is not None and (has_futures(value) or _is_pending(value)):
        value = await _brought(value, cluster)
    if not _is_pending(value) or is_lazy(value):
        return value
    members = list(parts(value))
    if isinstance(value, (list, tuple)) and all(is_lazy(part) for part in members):
        import dask.array as da

        return da.stack(members)
    if cluster is None:
        members = await asyncio.to_thread(_computed, members)
    else:
        members = await cluster.start(members)
    return members if isinstance(value, (list, tuple)) else members[0]


async def _brought(value: Any, cluster: Cluster) -> Any:
    members = list(parts(value))
    ours = cluster.runtime.client
    await _known([future for part in members for future in _futures(part) if future.client is not ours])
    for place, part in enumerate(members):
        there = next((future for future in _futures(part) if not cluster.knows(future)), None)
        if there is not None:
            async with _borrowed(there.client) as other:
                (members[place],) = await compute_all([part], other)
    return members if isinstance(value, (list, tuple)) else members[0]


async def received(value: Any, cluster: Cluster | None) -> Any:
    """Return what a message brings as an input of the run would be; without a cluster, as a value."""
    if cluster is not None or not (has_futures(value) or _is_pending(value)):
        return await started(value, cluster)
    async with open_cluster(None, {"message": value}) as other:
        return await arrived(await started(value, other), other)


async def _known(futures: list[Future[Any]]) -> None:
    """Wait for futures of other clients: until they are done, their scheduler may not have heard of them."""
    done = []
    for future in futures:
        if future.status == "pending":
            over: concurrent.futures.Future[None] = concurrent.futures.Future()
            future.add_done_callback(partial(_end, over))
            done.append(asyncio.wrap_future(over))
    await asyncio.gather(*done)


def _end(over: concurrent.futures.Future[None], future: Future[Any]) -> None:
    if over.set_running_or_notify_cancel():
        over.set_result(None)


async def arrived(value: Any, cluster: Cluster | None) -> Any:
    """Return the value itself, wherever it was."""
    if _is_pending(value):
        value = (await compute_all([value], cluster))[0]
    return await _fetched(value, cluster) if cluster is not None and has_futures(value) else value


async def _fetched(value: Any, cluster: Cluster) -> Any:
    """Replace futures by what they hold, each through its own client, as Dask has it."""
    members = list(parts(value))
    places: dict[Client, list[int]] = {}
    for place, part in enumerate(members):
        if isinstance(part, Future):
            places.setdefault(part.client, []).append(place)
    for client, mine in places.items():
        async with nullcontext(cluster) if client is cluster.runtime.client else _borrowed(client) as owner:
            for place, found in zip(mine, await owner.fetch([members[i] for i in mine]), strict=True):
                members[place] = found
    if not isinstance(value, (list, tuple)):
        return members[0]
    return members if isinstance(value, list) else tuple(members)


async def compute_all(values: list[Any], cluster: Cluster | None) -> list[Any]:
    """Compute lazy values together, so that they share the passes over their data."""
    if cluster is None:
        return await asyncio.to_thread(_computed, values)
    fetched: list[Any] = await cluster.fetch(await cluster.start(values))
    return fetched


def _computed(values: list[Any]) -> list[Any]:
    return list(dask.base.compute(*values))
