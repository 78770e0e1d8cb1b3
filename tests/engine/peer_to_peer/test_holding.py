"""Vectors that stay with their hosts: the same bits, reasons and safety as when they travel."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dask.sizeof import sizeof
from distributed import LocalCluster, get_worker

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.node import board
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.node.staff import Clerk
from byzflow.engine.peer_to_peer.gossip import NearestNeighborAveraging, PlainGossip
from byzflow.engine.peer_to_peer.holding import Holding
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from tests.engine.node.malformed import Malformed
from tests.engine.peer_to_peer.far import share_no_memory
from tests.engine.peer_to_peer.nodes import (
    Constant,
    Coroutines,
    Failing,
    Hanging,
    Quadratic,
    TwoFaced,
    Vandal,
)

HONEST, D = 5, 20_000  # columns: three blocks of the consensus distance
GOALS = [torch.from_numpy(row) for row in np.random.default_rng(3).normal(size=(HONEST, D))]
NEVER = 10**12
SHORT = slice(0, D - 1)


@asynccontextmanager
async def workers(n: int) -> Any:
    """Workers of this process that speak TCP: to the engine they are other processes."""
    options = {"processes": False, "protocol": "tcp", "dashboard_address": ":0", "memory_limit": 0}
    async with LocalCluster(n_workers=n, threads_per_worker=1, asynchronous=True, **options) as cluster:
        yield cluster


def recipes() -> list[Recipe]:
    rules = [PlainGossip(), NearestNeighborAveraging(1), CoordinateWiseMedian()]
    kinds = [Quadratic, Quadratic, Coroutines]
    return [Recipe(kinds[i % 3], (goal, rules[i % 3])) for i, goal in enumerate(GOALS)]


LIARS = [Recipe(TwoFaced), Recipe(Vandal), Recipe(Constant, (3.0,))]


async def trained(
    backend: Any, honest: list[Recipe], liars: list[Recipe], topology: Topology, rounds: int = 4
) -> tuple[list[torch.Tensor], Any]:
    if backend is None:
        hon, byz = ([recipe.factory(*recipe.args) for recipe in part] for part in (honest, liars))
    else:
        hon = await HonestNodeActor.spawn_many(honest, backend=backend)
        byz = await ByzantineNodeActor.spawn_many(liars, backend=backend)
    async with PeerToPeer(hon, byz, topology, lr=0.2, deadline=30.0) as p2p:
        for _ in range(rounds):
            await p2p.round()
        able = [i for i, recipe in enumerate(honest) if hasattr(recipe.factory, "get_param_vector")]
        told = [hon[i].get_param_vector() for i in able]
        return [theta if isinstance(theta, torch.Tensor) else await theta for theta in told], p2p.history


def assert_same(got: tuple[list[Any], Any], want: tuple[list[Any], Any]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(got[0], want[0], strict=True))
    for here, there in zip(got[1], want[1], strict=True):
        assert here.norms == there.norms
        assert here.spread == there.spread
        assert here.consensus_distance == there.consensus_distance
        assert here.excluded == there.excluded
        assert here.through == there.through


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note for every round whether its vectors stayed, and let them stay however small they are."""
    noted: list[bool] = []
    original = Holding.open

    async def watched(self: Holding, *args: Any) -> bool:
        noted.append(await original(self, *args))
        return noted[-1]

    monkeypatch.setattr(Holding, "open", watched)
    monkeypatch.setattr(board, "LARGE", 1)
    return noted


@pytest.fixture
async def carried(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What comes of the rounds when every vector travels."""

    async def run(*args: Any, **options: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(board, "LARGE", NEVER)
            return await trained(None, *args, **options)

    return run


TOPOLOGIES = {"complete": Topology.complete(HONEST + 3), "ring": Topology.ring(HONEST + 3, 2)}


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


@pytest.mark.processes
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


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], int]:
    """Let no host reach the memory of another process; count the messages between them."""
    messages: dict[tuple[str, str], int] = {}
    pull = Clerk.pull

    async def counted(self: Clerk, pulls: Any, deadline: Any) -> None:
        for source in (one.source.address for one in pulls):
            edge = source, get_worker().address
            messages[edge] = messages.get(edge, 0) + 1
        await pull(self, pulls, deadline)

    share_no_memory(monkeypatch)
    monkeypatch.setattr(Clerk, "pull", counted)
    return messages


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


UNFIT = {
    "raises": RuntimeError("broken"),
    "nan": torch.full((D,), float("nan"), dtype=torch.float64),
    "shape": torch.zeros(D - 1, dtype=torch.float64),
    "dtype": torch.zeros(D),
    "library": np.zeros(D),
    "text": "text",
}


@pytest.mark.parametrize("answer", UNFIT.values(), ids=UNFIT)
async def test_an_unfit_vector_is_refused_where_it_is_for_the_same_reason(answer, held, carried):
    honest, liars = [*recipes(), Recipe(Failing, (answer,))], [Recipe(Failing, (answer,)), LIARS[0]]
    topology = Topology.complete(HONEST + 3)
    async with workers(2) as cluster:
        got = await trained(cluster, honest, liars, topology, rounds=2)
    assert held == [True, True]
    assert {e.node for e in got[1][1].excluded} == {"honest-5", "byzantine-0"}
    assert_same(got, await carried(honest, liars, topology, rounds=2))


async def test_nodes_with_a_form_of_their_own_still_mix_with_each_other(held, carried):
    honest = [*recipes(), *(Recipe(Quadratic, (goal[SHORT], PlainGossip())) for goal in GOALS[:2])]
    liars, topology = [*LIARS[:1], Recipe(Constant, (5.0,))], Topology.complete(HONEST + 4)
    async with workers(2) as cluster:
        got = await trained(cluster, honest, liars, topology)
    assert held == [True] * 4
    want = await carried(honest, liars, topology)
    assert_same(got, want)
    assert len(want[0][-1]) == D - 1
    assert bool((want[0][-1] != 0.2 * GOALS[1][SHORT]).any())


async def test_malformed_answers_are_refused_as_when_they_travel(held, carried):
    goals = [torch.full((3,), float(i)) for i in range(4)]
    honest = [Recipe(Quadratic, (goal, PlainGossip())) for goal in goals]
    honest += [Recipe(Malformed, (i,)) for i in range(2)]
    liars, topology = [Recipe(Malformed, (i,)) for i in range(2, 4)], Topology.complete(8)
    got = await trained("thread", honest, liars, topology, rounds=12)
    want = await carried(honest, liars, topology, rounds=12)
    assert held == [False] + [True] * 11 + [False] * 12
    assert all(map(torch.equal, got[0], want[0]))
    for here, there in zip(got[1], want[1], strict=True):
        assert [(e.node, e.phase, e.reason) for e in here.excluded] == [
            (e.node, e.phase, e.reason) for e in there.excluded
        ]


async def test_a_byzantine_node_can_change_neither_what_others_hold_nor_what_it_has_sent(held):
    honest = [Recipe(Quadratic, (torch.full((D,), float(i)), PlainGossip())) for i in range(3)]
    async with workers(1) as cluster:
        thetas, _ = await trained(cluster, honest, [Recipe(Vandal)] * 2, Topology.complete(5), rounds=1)
        again, _ = await trained(cluster, honest, [Recipe(Vandal)] * 2, Topology.complete(5), rounds=3)
    for theta in thetas:
        torch.testing.assert_close(theta, torch.full((D,), (0 + 1 + 2) * 0.2 / 5 + 2 / 5))
    assert all(bool(torch.isfinite(theta).all()) and float(theta.max()) < 3 for theta in again)
    assert held == [True] * 4


async def test_a_node_that_hangs_is_left_out_at_the_deadline(held, monkeypatch):
    goals = [torch.full((D,), float(i)) for i in range(3)]
    stuck = Hanging()
    nodes = [*(Quadratic(goal, PlainGossip()) for goal in goals), stuck]
    p2p = PeerToPeer(nodes, [], Topology.complete(4), lr=1.0, deadline=0.5)
    async with p2p:
        for _ in range(4):
            await p2p.round()
        stuck.gate.set()
    assert held == [False, True, True, True]
    assert all([str(e.reason) for e in report.excluded] == ["deadline"] for report in p2p.history)
    torch.testing.assert_close(nodes[0].theta, torch.ones(D))


async def test_a_cancelled_round_is_finished_by_the_next_call(held, carried):
    nodes = [recipe.factory(*recipe.args) for recipe in recipes()]
    async with PeerToPeer(nodes, [Constant(3.0)], Topology.complete(HONEST + 1), lr=0.2) as p2p:
        await p2p.round()
        for _ in range(3):
            round = asyncio.create_task(p2p.round())
            await asyncio.wait([round], timeout=0.004)  # seconds: somewhere within a round
            round.cancel()
            await asyncio.wait([round])
        while len(p2p.history) < 4:
            await p2p.round()
        got = [node.get_param_vector() for node in nodes]
        got = [theta if isinstance(theta, torch.Tensor) else await theta for theta in got]
    want, _ = await carried(recipes(), LIARS[2:], Topology.complete(HONEST + 1), rounds=len(p2p.history))
    assert all(map(torch.equal, got, want))


async def test_a_run_leaves_no_memory_and_no_descriptor_behind(held):
    def count() -> tuple[int, int]:
        names = [_target(path) for path in Path("/proc/self/fd").iterdir()]
        maps = Path("/proc/self/maps").read_text().count("byzflow-arena")
        return sum("byzflow-arena" in name for name in names), maps

    async with workers(2) as cluster:
        before = count()
        await trained(cluster, recipes(), LIARS, TOPOLOGIES["complete"])
        assert count() == before
    assert held == [True] * 4


@pytest.mark.processes
async def test_workers_that_live_on_let_go_of_a_runs_memory(held):
    def maps() -> int:
        return Path("/proc/self/maps").read_text().count("byzflow-arena")

    keeper = (await HonestNodeActor.spawn_many(recipes()[:1], backend="process"))[0]
    client = keeper._place()[0].runtime.client
    await trained("process", recipes(), LIARS, TOPOLOGIES["complete"])
    assert held == [True] * 4
    assert set((await asyncio.to_thread(client.run, maps)).values()) == {0}
    await keeper.close()


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:  # the listing's own
        return ""
