"""What a round asks of hosts and scheduler depends on the workers, not on the number of nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import dask
import pytest
import torch
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.actor.runtime import Runtime
from byzflow.engine.actor.tray import MOST
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.parameter_server.ps import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from byzflow.engine.rounds import rota
from tests.engine.parameter_server.nodes import Honest, Liar
from tests.engine.peer_to_peer.nodes import Quadratic

WORKERS = 2
FEW, MANY = 20, 200
ROUNDS = 3


class Tasks(SchedulerPlugin):
    """Counts the tasks that a scheduler hands to workers."""

    count = 0

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        self.count += finish == "processing"


@pytest.fixture(scope="module")
def client() -> Any:
    options = {"processes": False, "protocol": "tcp", "dashboard_address": ":0", "memory_limit": 0}
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, **options) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls to node hosts, by address."""
    found: Counter[str] = Counter()
    original = HostRef.execute

    async def execute(self: HostRef, method: str, *args: Any, **kwargs: Any) -> Any:
        found[self.address] += 1
        return await original(self, method, *args, **kwargs)

    monkeypatch.setattr(HostRef, "execute", execute)
    return found


class Peer(Quadratic):
    """Wants to know whom it hears, with what weight, and tells what it holds: all that a node can ask for."""

    def __init__(self, index: int) -> None:
        super().__init__(torch.full((5,), float(index)), CoordinateWiseMedian())

    def p2p_set_neighbors(self, node: int, senders: Sequence[int], missing: Sequence[int]) -> bool:
        return False

    def p2p_set_mixing(self, weights: Sequence[float]) -> None:
        self.weights = weights


class Mirror:
    """Sends the opposite of the first vector that it hears."""

    def p2p_broadcast_vector(
        self, neighbor_vectors: Sequence[torch.Tensor], like: torch.Tensor
    ) -> torch.Tensor:
        return -neighbor_vectors[0]


async def demands(n: int, rule: Any, client: Client, calls: Counter[str]) -> tuple[dict[str, int], int]:
    """Return calls by host and tasks, of rounds on n nodes after the first."""
    liars = n // 10
    honest = await HonestNodeActor.spawn_many(
        [Recipe(Honest, (i,)) for i in range(n - liars)], backend=client
    )
    byzantine = await ByzantineNodeActor.spawn_many([Recipe(Liar)] * liars, backend=client)
    async with ParameterServer(honest, byzantine, rule) as ps:
        return await spent(ps, client, calls)


async def spent(run: Any, client: Client, calls: Counter[str]) -> tuple[dict[str, int], int]:
    """Return calls by host and tasks, of rounds after the first."""
    tasks = Tasks()
    await run.round()
    calls.clear()
    client.cluster.scheduler.add_plugin(tasks, name="tasks")
    for _ in range(ROUNDS):
        await run.round()
    client.cluster.scheduler.remove_plugin("tasks")
    asked = dict(calls)
    assert [report.excluded for report in run.history] == [()] * (ROUNDS + 1)
    return asked, tasks.count


@pytest.mark.parametrize(
    "make", [lambda f: CoordinateWiseMedian(), lambda f: MultiKrum(f=f, q=f)], ids=["median", "krum"]
)
async def test_a_round_asks_each_host_once_a_phase_however_many_nodes(
    make: Any, client: Client, calls: Counter[str]
) -> None:
    few = await demands(FEW, make(FEW // 10), client, calls)
    many = await demands(MANY, make(MANY // 10), client, calls)
    assert many == few
    asked, tasks = many
    assert len(asked) == WORKERS
    assert set(asked.values()) == {3 * ROUNDS}  # gradients, attack, apply
    assert tasks == 0


async def test_peers_are_asked_once_a_phase_for_each_host_however_many(
    client: Client, calls: Counter[str]
) -> None:
    async def peers(n: int) -> tuple[dict[str, int], int]:
        honest = [Recipe(Peer, (i,)) for i in range(n - n // 10)]
        nodes = await HonestNodeActor.spawn_many(honest, backend=client)
        liars = await ByzantineNodeActor.spawn_many([Recipe(Mirror)] * (n // 10), backend=client)
        async with PeerToPeer(nodes, liars, Topology.ring(n, 3), mixing="metropolis") as run:
            return await spent(run, client, calls)

    few, many = await peers(FEW), await peers(MANY)
    assert many == few
    asked, tasks = many
    assert max(asked.values()) <= 4 * ROUNDS  # half steps, liars, those who hear one and those who do not
    assert tasks == 0


async def test_closing_asks_each_host_once_however_many_nodes(client: Client, calls: Counter[str]) -> None:
    nodes = await HonestNodeActor.spawn_many([Recipe(Honest, (i,)) for i in range(FEW)], backend=client)
    ps = ParameterServer(nodes, [], CoordinateWiseMedian())
    calls.clear()
    await ps.shutdown()
    assert list(calls.values()) == [1] * WORKERS
    await ps.shutdown()
    assert list(calls.values()) == [1] * WORKERS


async def test_what_peers_are_brought_back_with_does_not_keep_the_memory_that_answers_come_in(
    client: Client,
) -> None:
    recipes = [
        Recipe(Quadratic, (torch.full((1000,), float(i)), CoordinateWiseMedian())) for i in range(MANY)
    ]
    nodes = await HonestNodeActor.spawn_many(recipes, backend=client)
    runtime = await Runtime.acquire(client)
    async with PeerToPeer(nodes, [], Topology.ring(MANY, 1)) as run:
        for _ in range(4 + MOST):
            await run.round()
        trays = [host._trays for host in (await runtime.hosts()).values()]
        assert len(trays) == WORKERS
        assert all(any(tray.is_free for tray in some._spare) for some in trays)
    await runtime.release()


class Heavy(Liar):
    """Has more of a state than is saved with every attack."""

    def __init__(self) -> None:
        super().__init__()
        self.data = torch.zeros(100_000)


@pytest.mark.parametrize(
    ("d", "liars"), [(16_000, 0), (20_000, 1)], ids=["states", "what heavy Byzantine nodes saw"]
)
async def test_what_nodes_are_brought_back_with_does_not_keep_the_memory_that_answers_come_in(
    client: Client, monkeypatch: pytest.MonkeyPatch, d: int, liars: int
) -> None:
    monkeypatch.setattr(rota, "HEAVY", 0)  # states are saved in turns, some in every round
    recipes = [Recipe(Honest, (i, d)) for i in range(FEW if liars else MANY)]
    honest = await HonestNodeActor.spawn_many(recipes, backend=client)
    byzantine = await ByzantineNodeActor.spawn_many([Recipe(Heavy)] * liars, backend=client)
    runtime = await Runtime.acquire(client)
    with dask.config.set({"byzflow.round.snapshot-every": 10}):
        async with ParameterServer(honest, byzantine, CoordinateWiseMedian()) as server:
            for _ in range(4 + MOST):
                await server.round()
            trays = [host._trays for host in (await runtime.hosts()).values()]
            assert len(trays) == WORKERS
            assert all(any(tray.is_free for tray in some._spare) for some in trays)
    await runtime.release()
