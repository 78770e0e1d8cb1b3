"""A node that ends its worker whenever it is called costs the others nothing, and is the one left out."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from distributed import LocalCluster, get_worker

from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
from byzflow.engine.node.actors import HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from tests.engine.sine_node import SineNode

N, KILLER, FATAL = 5, 2, 1


OPTIONS: dict[str, Any] = {
    "processes": False,
    "protocol": "tcp",
    "dashboard_address": None,
    "memory_limit": 0,
}
CLUSTERS: list[LocalCluster] = []
OVER = threading.Event()


def end_worker(code: int) -> None:
    """Cut the worker's wire to the scheduler, as its death does, and answer nothing."""
    scheduler, address = CLUSTERS[-1].scheduler, get_worker().address
    scheduler.loop.add_callback(lambda: scheduler.stream_comms[address].abort())
    OVER.wait()
    raise ValueError(code)


class Learner(SineNode):
    """The killer among them ends its worker in round 1, or raises."""

    def __init__(self, number: int, way: Any = None) -> None:
        super().__init__(number)
        self.way = way

    def misbehave(self) -> None:
        if self.number == KILLER and self.steps == FATAL + 1:
            self.way(1)

    def get_param_vector(self) -> Any:
        return self.vector


def fail(code: int) -> None:
    raise ValueError(code)


def server(nodes: list[Any]) -> ParameterServer:
    return ParameterServer(nodes, [], CoordinateWiseTrimmedMean(f=1), deadline=30.0)


def peers(nodes: list[Any]) -> PeerToPeer:
    return PeerToPeer(nodes, [], Topology.complete(N), deadline=30.0)


@pytest.mark.parametrize("make", [server, peers])
async def test_the_node_that_ends_workers_is_the_one_left_out(make: Any) -> None:
    async with LocalCluster(n_workers=4, threads_per_worker=1, asynchronous=True, **OPTIONS) as cluster:
        CLUSTERS.append(cluster)
        OVER.clear()
        recipes = [Recipe(Learner, (i, end_worker)) for i in range(N)]
        nodes = await HonestNodeActor.spawn_many(recipes, backend=cluster)
        async with make(nodes) as run:
            for _ in range(FATAL + 2):
                await run.round()
            got = [await nodes[i].get_param_vector() for i in range(N) if i != KILLER]
        assert len(cluster.scheduler.workers) == 1  # it was called with others once, and alone twice
    OVER.set()
    plain = [Learner(i, fail) for i in range(N)]
    async with make(plain) as reference:
        for _ in range(FATAL + 1):
            await reference.round()
        plain[KILLER].way, plain[KILLER].steps = fail, FATAL  # gone for good where it ends workers
        await reference.round()
    assert [v.tolist() for v in got] == [n.vector.tolist() for n in plain if n.number != KILLER]
    assert run.history[FATAL].excluded[0].node == f"honest-{KILLER}"
    assert {exclusion.node for report in run.history for exclusion in report.excluded} == {f"honest-{KILLER}"}
    assert "took down its worker" in run.history[FATAL].excluded[0].detail
