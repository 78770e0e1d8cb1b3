"""Closing that is cancelled on the way, as by Ctrl-C, leaves nothing open; or the next closing does."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.clusters import EMBEDDED, thread_cluster
from byzflow.engine.actor.fleet import Fleet
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.actor.runtime import Runtime
from byzflow.engine.node.actors import HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from byzflow.engine.rounds.turn import Turn
from tests.engine.sine_node import SineNode

SPARE = "spare"


def server(nodes: list[Any]) -> ParameterServer:
    return ParameterServer(nodes, [], CoordinateWiseMedian())


def peers(nodes: list[Any]) -> PeerToPeer:
    return PeerToPeer(nodes, [], Topology.complete(len(nodes)))


@pytest.fixture
async def nodes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Two nodes on a cluster of their own."""
    monkeypatch.setitem(EMBEDDED, SPARE, thread_cluster)
    recipes = [Recipe(SineNode, (number,)) for number in range(2)]
    return list(await HonestNodeActor.spawn_many(recipes, backend=DaskActorBackend(SPARE)))


def hang(owner: type, name: str) -> Callable[[], Any]:
    """Have a method hang, and return what waits until it does, cancels its caller, and mends it."""
    entered, loop = asyncio.Event(), asyncio.get_running_loop()

    async def never(*args: Any) -> None:
        loop.call_soon_threadsafe(entered.set)
        await asyncio.Event().wait()

    patch = pytest.MonkeyPatch()
    patch.setattr(owner, name, never)

    async def cancel(work: asyncio.Task[Any]) -> None:
        async with asyncio.timeout(20):
            await entered.wait()
            patch.undo()
            work.cancel()
            await asyncio.wait([work])
        assert work.cancelled()

    return cancel


def is_open() -> bool:
    return any(key[0] == SPARE for key in Runtime._live)


@pytest.mark.parametrize("make", [server, peers])
@pytest.mark.parametrize(
    ("owner", "name", "again"),
    [(HostRef, "drop", False), (Fleet, "leave", False), (Turn, "close", True)],
)
async def test_a_run_that_is_cancelled_as_it_closes_leaves_no_cluster_open(
    make: Any, owner: type, name: str, again: bool, nodes: list[Any]
) -> None:
    run = make(nodes)
    await run.round()
    client = nodes[0]._place()[0].runtime.client
    cancel = hang(owner, name)
    await cancel(asyncio.create_task(run.shutdown()))
    assert is_open() is again
    await run.shutdown()
    assert not is_open()
    assert client.status == "closed"


@pytest.mark.parametrize("make", [server, peers])
def test_a_run_that_nobody_closed_ends_its_threads_when_it_is_gone(make: Callable[[list[Any]], Any]) -> None:
    before = set(threading.enumerate())
    make([SineNode(0), SineNode(1)]).round_sync()
    threads = [it for it in threading.enumerate() if it not in before and "-local-" in it.name]
    gc.collect()
    for thread in threads:
        thread.join(timeout=20)
    assert threads
    assert not any(thread.is_alive() for thread in threads)
