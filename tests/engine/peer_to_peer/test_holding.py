"""Vectors that stay with their hosts: the same bits as when they travel, and nothing left behind."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from inspect import isawaitable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dask.sizeof import sizeof

from byzflow.engine.actor.calls import Call
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from byzflow.engine.rounds import sites
from byzflow.engine.rounds.board import Board
from byzflow.engine.rounds.calls import Roster
from byzflow.engine.rounds.forms import Signature
from byzflow.engine.rounds.staff import Staff
from tests.engine.peer_to_peer.far import share_no_memory
from tests.engine.peer_to_peer.held import (
    GOALS,
    LIARS,
    TOPOLOGIES,
    assert_same,
    let_none_stay,
    recipes,
    trained,
    workers,
)
from tests.engine.peer_to_peer.nodes import InPlace, Reusing


@pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=TOPOLOGIES)
@pytest.mark.parametrize("n", [1, 2, 4])
async def test_rounds_give_the_bits_they_give_when_vectors_travel(n, topology, held, carried):
    async with workers(n) as cluster:
        got = await trained(cluster, recipes(), LIARS, topology)
    assert held == [True] * 4
    assert_same(got, await carried(recipes(), LIARS, topology))


@pytest.mark.parametrize("backend", [None, "thread"])
async def test_nodes_of_this_process_leave_their_vectors_there_too(backend, held, carried):
    got = await trained(backend, recipes(), LIARS, TOPOLOGIES["complete"])
    assert held == [False, True, True, True]  # the first round shows what the vectors look like
    assert_same(got, await carried(recipes(), LIARS, TOPOLOGIES["complete"]))


@pytest.mark.parametrize("reach", ["all", "none", "here"])
async def test_small_vectors_stay_where_all_hosts_reach_the_memory(
    reach, held, carried, request, monkeypatch
):
    monkeypatch.setattr(sites, "LARGE", 10**9)
    looked_through: list[Call] = []
    monkeypatch.setattr(Board, "_sent", lambda self, call, domain: looked_through.append(call) or call)
    if reach == "none":
        request.getfixturevalue("far")
    async with workers(2) as cluster:
        backend = "thread" if reach == "here" else cluster
        got = await trained(backend, recipes(), LIARS, TOPOLOGIES["ring"])
    assert held == [reach == "all"] * 4
    assert not looked_through
    assert_same(got, await carried(recipes(), LIARS, TOPOLOGIES["ring"]))


@pytest.mark.processes
@pytest.mark.parametrize("kind", [torch.full, np.full])
@pytest.mark.parametrize("backend", ["plain", "thread", "held", "fetched", "carried"])
async def test_an_answer_is_what_the_node_gave_whatever_it_does_with_that_memory(backend, kind, monkeypatch):
    let_none_stay(monkeypatch) if backend == "carried" else monkeypatch.setattr(sites, "LARGE", 0)
    if backend == "fetched":
        share_no_memory(monkeypatch)
    monkeypatch.setattr(InPlace, "arrived", threading.Semaphore(0))
    InPlace.gate.clear()
    starts = [kind((3,), value) for value in (0.0, 3.0, 6.0)]
    honest = [Recipe(InPlace, (start, place == 2)) for place, start in enumerate(starts)]
    liars = [Recipe(Reusing, (starts[0],))]
    async with AsyncExitStack() as stack:
        if backend == "plain":
            nodes, bad = ([recipe.factory(*recipe.args) for recipe in part] for part in (honest, liars))
        else:
            where = "thread" if backend == "thread" else await stack.enter_async_context(workers(2))
            nodes = await HonestNodeActor.spawn_many(honest, backend=where)
            bad = await ByzantineNodeActor.spawn_many(liars, backend=where)
        p2p = await stack.enter_async_context(PeerToPeer(nodes, bad, Topology.complete(4)))
        round = asyncio.create_task(p2p.round())
        for _ in nodes:
            assert await asyncio.to_thread(InPlace.arrived.acquire, timeout=30)
        round.cancel()
        with pytest.raises(asyncio.CancelledError):
            await round
        InPlace.gate.set()
        await p2p.round()
        told = [(await read(node))[0] for node in nodes]
    assert told == [(1 + 4 + 7 + lie) / 4 for lie in (100.0, 200.0, 300.0)]
    assert p2p.history[0].norms == pytest.approx([(3 * entry**2) ** 0.5 for entry in (1, 4, 7, 300)])


async def test_a_lie_of_a_form_of_its_own_is_what_it_was_too(held):
    class Fitting(Reusing):
        def p2p_vector_for(self, receiver, neighbor_vectors=None, like=None):
            return super().p2p_vector_for(receiver)[: len(like)]

    honest = [Recipe(InPlace, (np.full(d, 0.0),)) for d in (2, 3, 3)]
    async with workers(1) as cluster:
        nodes = await HonestNodeActor.spawn_many(honest, backend=cluster)
        bad = await ByzantineNodeActor.spawn_many([Recipe(Fitting, (np.zeros(3),))], backend=cluster)
        async with PeerToPeer(nodes, bad, Topology.complete(4)) as p2p:
            await p2p.round()
            told = [(await read(node))[0] for node in nodes]
    assert held == [True]
    assert told == [(1 + 100) / 2, (1 + 1 + 200) / 3, (1 + 1 + 300) / 3]


async def read(node: Any) -> Any:
    told = node.get_param_vector()
    return [float(entry) for entry in (await told if isawaitable(told) else told)]


async def test_worker_processes_give_the_same_bits(held, carried):
    got = await trained("process", recipes(), LIARS, TOPOLOGIES["complete"])
    assert held == [True] * 4
    assert_same(got, await carried(recipes(), LIARS, TOPOLOGIES["complete"]))


async def test_no_vector_passes_through_the_coordinator(held, monkeypatch):
    sizes: list[int] = []
    original = HostRef.execute

    async def weighed(self: HostRef, method: str, *args: Any, deadline: float | None = None) -> Any:
        reply = await original(self, method, *args, deadline=deadline)
        sizes.append(sizeof(reply) + sum(map(sizeof, args)))
        return reply

    async with workers(2) as cluster:
        hon = await HonestNodeActor.spawn_many(recipes(), backend=cluster)
        byz = await ByzantineNodeActor.spawn_many(LIARS, backend=cluster)
        async with PeerToPeer(hon, byz, TOPOLOGIES["complete"], lr=0.2, deadline=30.0) as p2p:
            await p2p.round()
            with monkeypatch.context() as patch:
                patch.setattr(HostRef, "execute", weighed)
                await p2p.round()
    assert held == [True, True]
    assert len(sizes) == 5 * 2  # half steps, attack, aggregate, two distances; each once for each host
    assert max(sizes) < GOALS[0].nbytes / 5


@pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=TOPOLOGIES)
@pytest.mark.parametrize("n", [2, 4])
async def test_hosts_that_share_no_memory_fetch_from_each_other(n, topology, held, far, carried):
    async with workers(n) as cluster:
        got = await trained(cluster, recipes(), LIARS, topology)
    assert held == [True] * 4
    assert_same(got, await carried(recipes(), LIARS, topology))
    assert len(far) > 1
    assert (
        max(far.values()) <= 4 * 5
    )  # rounds, and at most half steps, lies, distances, and copies for safety


async def test_one_host_that_shares_no_memory_has_nobody_to_keep_a_copy(held, far, carried):
    async with workers(1) as cluster:
        got = await trained(cluster, recipes(), LIARS, TOPOLOGIES["ring"], rounds=2)
    assert held == [False, False]
    assert_same(got, await carried(recipes(), LIARS, TOPOLOGIES["ring"], rounds=2))


async def test_a_run_leaves_no_memory_and_no_descriptor_behind(held):
    def count() -> tuple[int, int]:
        names = [_target(path) for path in Path("/proc/self/fd").iterdir()]
        maps = Path("/proc/self/maps").read_text().count("memfd:byzflow-arena")
        return sum("memfd:byzflow-arena" in name for name in names), maps

    async with workers(2) as cluster:
        before = count()
        await trained(cluster, recipes(), LIARS, TOPOLOGIES["complete"])
        async with asyncio.timeout(20):  # a thread lets go of a call a moment after its answer
            while count() != before:  # noqa: ASYNC110  # that has no event
                await asyncio.sleep(0.01)
    assert held == [True] * 4


@pytest.mark.processes
async def test_workers_that_live_on_let_go_of_a_runs_memory(held):
    def maps() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:byzflow-arena")

    keeper = (await HonestNodeActor.spawn_many(recipes()[:1], backend="process"))[0]
    client = keeper._place()[0].runtime.client
    await trained("process", recipes(), LIARS, TOPOLOGIES["complete"])
    assert held == [True] * 4
    async with asyncio.timeout(20):
        while any((await asyncio.to_thread(client.run, maps)).values()):  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.01)
    await keeper.close()


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:  # the listing's own
        return ""


async def test_drafts_lie_in_the_same_memory_in_every_round_and_other_rows_do_not():
    form = Signature("torch", "float32", (2_000_000,))
    board = Board(Roster([object()]), Staff())
    places, drafts = set(), set()
    for number in range(3):
        assert await board.open(number, form, rows=1, drafts=1)
        places.add(board.places([0])[0])
        drafts.add(board.drafts([0])[0])
    assert (len(places), len(drafts)) == (3, 1)
    assert not places & drafts
    await board.close()
