"""What a round asks of hosts and scheduler depends on the workers, not on the number of nodes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.parameter_server.ps import ParameterServer
from tests.engine.parameter_server.nodes import Honest, Liar

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


async def demands(n: int, rule: Any, client: Client, calls: Counter[str]) -> tuple[dict[str, int], int]:
    """Return calls by host and tasks, of rounds on n nodes after the first."""
    liars = n // 10
    tasks = Tasks()
    honest = await HonestNodeActor.spawn_many(
        [Recipe(Honest, (i,)) for i in range(n - liars)], backend=client
    )
    byzantine = await ByzantineNodeActor.spawn_many([Recipe(Liar)] * liars, backend=client)
    async with ParameterServer(honest, byzantine, rule) as ps:
        await ps.round()
        calls.clear()
        client.cluster.scheduler.add_plugin(tasks, name="tasks")
        for _ in range(ROUNDS):
            await ps.round()
        client.cluster.scheduler.remove_plugin("tasks")
        asked = dict(calls)
        assert [report.excluded for report in ps.history] == [()] * (ROUNDS + 1)
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


async def test_closing_asks_each_host_once_however_many_nodes(client: Client, calls: Counter[str]) -> None:
    nodes = await HonestNodeActor.spawn_many([Recipe(Honest, (i,)) for i in range(FEW)], backend=client)
    ps = ParameterServer(nodes, [], CoordinateWiseMedian())
    calls.clear()
    await ps.shutdown()
    assert list(calls.values()) == [1] * WORKERS
    await ps.shutdown()
    assert list(calls.values()) == [1] * WORKERS
