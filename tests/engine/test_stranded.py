"""Nodes that a cluster lost with its last worker come back with the next one; nobody waits for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import dask
import pytest
import torch
from distributed import Client, LocalCluster

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.actor.fleet import Fleet
from byzflow.engine.node.actors import HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from byzflow.exceptions import ToleranceError
from tests.engine.forgiving import forgiving_cluster
from tests.engine.sine_node import SineNode

AWAY = 3
LIMIT = 60.0  # seconds for whatever has to connect: twice what Dask may take to close the worker before
SHORT = 0.2  # for a worker that will not come


class Learner(SineNode):
    def get_param_vector(self) -> Any:
        return self.vector


def server(nodes: list[Any]) -> ParameterServer:
    return ParameterServer(nodes, [], CoordinateWiseMedian(), quorum=1)


def peers(nodes: list[Any]) -> PeerToPeer:
    return PeerToPeer(nodes, [], Topology.complete(len(nodes)))


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster]:
    with dask.config.set({"byzflow.comm.connect-timeout": LIMIT, "byzflow.host.return-deadline": LIMIT}):
        async with forgiving_cluster(1) as cluster:
            yield cluster


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Return how long each search for a worker was meant to last; the long ones are cut short."""
    return noted(monkeypatch, SHORT)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Return how long each search for a worker was meant to last."""
    return noted(monkeypatch, LIMIT)


def noted(monkeypatch: pytest.MonkeyPatch, most: float) -> list[float | None]:
    seen: list[float | None] = []
    wait = Fleet._wait_for_one

    async def search(fleet: Fleet, limit: float | None) -> None:
        seen.append(limit)
        await wait(fleet, min(most, LIMIT if limit is None else limit))

    monkeypatch.setattr(Fleet, "_wait_for_one", search)
    return seen


async def scale(cluster: LocalCluster, count: int) -> None:
    cluster.scale(count)
    await cluster


async def vectors(nodes: list[Any]) -> list[torch.Tensor]:
    return [n.vector if isinstance(n, Learner) else await n.get_param_vector() for n in nodes]


@pytest.mark.parametrize("make", [server, peers])
async def test_stranded_nodes_are_taken_back_and_the_others_wait_for_them_once(
    make: Any, cluster: LocalCluster, waits: list[float | None]
) -> None:
    nodes = await HonestNodeActor.spawn_many([Recipe(Learner, (i,)) for i in range(AWAY)], backend=cluster)
    async with make([*nodes, *(Learner(AWAY + i) for i in range(2))]) as run:
        await run.round()
        await scale(cluster, 0)
        for _ in range(3):
            await run.round()
        assert waits.count(LIMIT) == 1
        await scale(cluster, 1)
        await run.round()
        await run.round()
        gone = [len({exclusion.node for exclusion in report.excluded}) for report in run.history]
        assert gone == [0, AWAY, AWAY, AWAY, 0, 0]
        assert [len(report.respawned) for report in run.history] == [0, 0, 0, 0, AWAY, 0]


@pytest.mark.parametrize("make", [server, peers])
async def test_a_run_that_lost_every_node_goes_on_where_it_was(
    make: Any, cluster: LocalCluster, waits: list[float | None]
) -> None:
    nodes = await HonestNodeActor.spawn_many([Recipe(Learner, (i,)) for i in range(AWAY)], backend=cluster)
    plain = [Learner(i) for i in range(AWAY)]
    async with make(nodes) as run, make(plain) as undisturbed:
        await run.round()
        await scale(cluster, 0)
        with pytest.raises(ValueError, match="must have a worker"):
            await run.round()
        await scale(cluster, 1)
        await run.round()
        for _ in range(2):
            await undisturbed.round()
        assert all(map(torch.equal, await vectors(nodes), await vectors(plain)))
        assert run.history[-1].excluded == ()


@pytest.mark.parametrize("make", [server, peers])
async def test_a_round_waits_for_the_next_worker_longer_than_for_the_first(
    make: Any, cluster: LocalCluster, searches: list[float | None]
) -> None:
    nodes = await HonestNodeActor.spawn_many([Recipe(Learner, (i,)) for i in range(AWAY)], backend=cluster)
    plain = [Learner(i) for i in range(AWAY)]
    async with make(nodes) as run, make(plain) as undisturbed:
        await run.round()
        await scale(cluster, 0)
        with dask.config.set({"byzflow.comm.connect-timeout": SHORT}):
            late = asyncio.ensure_future(run.round())
            while not searches:  # noqa: ASYNC110  # nobody says that a search has begun
                await asyncio.sleep(SHORT)
        await asyncio.sleep(2 * SHORT)
        await scale(cluster, 1)
        await late
        for _ in range(2):
            await undisturbed.round()
        assert all(map(torch.equal, await vectors(nodes), await vectors(plain)))
        assert searches == [LIMIT]
        assert run.history[-1].excluded == ()


@pytest.mark.parametrize("make", [server, peers])
async def test_rounds_end_as_undisturbed_while_workers_are_scaled_away_and_retired(
    make: Any, cluster: LocalCluster
) -> None:
    nodes = await HonestNodeActor.spawn_many([Recipe(Learner, (i,)) for i in range(AWAY)], backend=cluster)
    plain = [Learner(i) for i in range(AWAY)]
    async with (
        Client(cluster, asynchronous=True) as client,
        make(nodes) as run,
        make(plain) as undisturbed,
    ):

        async def disturb() -> None:
            await scale(cluster, 0)
            await scale(cluster, 2)
            await client.retire_workers([*await client.nthreads()])
            await scale(cluster, 0)
            await scale(cluster, 1)

        await run.round()  # the states of all are known from here on
        await undisturbed.round()
        disturbing, rounds = asyncio.ensure_future(disturb()), 0
        while not disturbing.done() or rounds < 10:
            await run.round()
            await undisturbed.round()
            rounds += 1
        await disturbing
        assert all(map(torch.equal, await vectors(nodes), await vectors(plain)))
        assert all(report.excluded == () for report in run.history)
        assert any(report.respawned for report in run.history)


@pytest.mark.parametrize("make", [server, peers])
async def test_a_run_whose_scheduler_came_back_without_its_hosts_makes_new_ones(
    make: Any, cluster: LocalCluster
) -> None:
    nodes = await HonestNodeActor.spawn_many([Recipe(Learner, (i,)) for i in range(AWAY)], backend=cluster)
    plain = [Learner(i) for i in range(AWAY)]
    async with make(nodes) as run, make(plain) as undisturbed:
        for number in range(3):
            await run.round()
            await undisturbed.round()
            if number < 2:  # whoever serves the next connection knows nothing of the client
                nodes[0]._place()[0].runtime.client.scheduler_comm.comm.abort()
        assert all(map(torch.equal, await vectors(nodes), await vectors(plain)))
        assert [len(report.respawned) for report in run.history] == [0, AWAY, AWAY]


@pytest.mark.parametrize("make", [server, peers])
async def test_rounds_whose_client_was_closed_say_so_and_accuse_no_node(
    make: Any, cluster: LocalCluster
) -> None:
    client = await Client(cluster, asynchronous=True)
    nodes = await HonestNodeActor.spawn_many([Recipe(Learner, (i,)) for i in range(AWAY)], backend=client)
    async with make(nodes) as run:
        await run.round()
        await client.close()
        for _ in range(2):
            with pytest.raises(ToleranceError) as raised:
                await run.round()
            assert "this one was closed" in str(raised.value)
            assert "took down" not in str(raised.value)
