"""How peer-to-peer runs are set up, begun, cut short and ended."""

from __future__ import annotations

import asyncio
import logging
import threading

import numpy as np
import pytest
from distributed import Client, LocalCluster

from byzflow.engine.graph.ops import RemoteCallableOp, make_single_operator_graph
from byzflow.engine.peer_to_peer.gossip import NearestNeighborAveraging, PlainGossip
from byzflow.engine.peer_to_peer.runner import DecentralizedPeerToPeer
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from byzflow.exceptions import ToleranceError
from tests.engine.peer_to_peer.nodes import (
    Constant,
    Hanging,
    Quadratic,
    Stub,
    play,
    targets,
)


async def test_rounds_leave_neither_threads_nor_tasks_behind():
    nodes = [Quadratic(goal, PlainGossip()) for goal in targets(4)]
    p2p = PeerToPeer(nodes, [Constant(0.0)], Topology.ring(5))
    async with p2p:
        threads, tasks = [], set()
        for _ in range(60):
            await p2p.round()
            threads.append(threading.active_count())
            tasks.add(len(asyncio.all_tasks()))
    assert len(tasks) == 1
    assert threads[-1] <= threads[5] + 9  # a busy machine may bring in spare ones; one a round would be 54


async def test_a_node_that_hangs_is_left_out_at_the_deadline_and_no_longer_waited_for():
    stuck, goals = Hanging(), [np.full(2, float(i)) for i in range(3)]
    nodes = [*(Quadratic(goal, PlainGossip()) for goal in goals), stuck]
    p2p = PeerToPeer(nodes, [], Topology.complete(4), lr=1.0, deadline=1.0)
    async with p2p:
        for _ in range(3):
            await p2p.round()
        p2p.deadline = 60.0
        async with asyncio.timeout(20):
            await p2p.round()
        stuck.gate.set()
    assert all([str(e.reason) for e in report.excluded] == ["deadline"] for report in p2p.history)
    assert "p2p_half_step() had to end within 1.0 s" in str(p2p.history[0].excluded[0])
    np.testing.assert_allclose(nodes[0].theta, [1.0, 1.0])


async def test_a_cancelled_round_is_finished_by_the_next_call_and_nobody_steps_twice():
    class Gate(Quadratic):
        def __init__(self, *args):
            super().__init__(*args)
            self.calls = []
            self.entered, self.open = asyncio.Event(), asyncio.Event()

        async def p2p_aggregate_and_set(self, own, neighbors):
            self.calls.append("mix")
            self.entered.set()
            await self.open.wait()
            super().p2p_aggregate_and_set(own, neighbors)

        def p2p_half_step(self, lr):
            self.calls.append("step")
            return super().p2p_half_step(lr)

    gate, other = Gate(np.zeros(1), PlainGossip()), Quadratic(np.ones(1), PlainGossip())
    p2p = PeerToPeer([gate, other], [], Topology.complete(2), lr=1.0)
    async with p2p:
        round = asyncio.create_task(p2p.round())
        await gate.entered.wait()
        round.cancel()
        with pytest.raises(asyncio.CancelledError):
            await round
        gate.open.set()
        await p2p.round()
        assert gate.calls == ["step", "mix", "mix"]
        assert [gate.theta.tolist(), other.theta.tolist()] == [[0.5], [0.5]]
        assert [report.round for report in p2p.history] == [0]


async def test_a_rule_that_cannot_run_fails_the_round_and_says_whose():
    nodes = [Quadratic(goal, NearestNeighborAveraging(f=3)) for goal in targets(3)]
    p2p = PeerToPeer(nodes, [], Topology.complete(3))
    async with p2p:
        with pytest.raises(ToleranceError, match=r"honest-0 .*f=3, n=3"):
            await p2p.round()
        assert len(p2p.history[0].excluded) == 3
        for node in nodes:
            node.p2p_agg = PlainGossip()
        await p2p.round()
    assert p2p.history[1].excluded == ()


async def test_a_quorum_lets_a_round_stand_without_the_nodes_that_cannot_mix():
    nodes = [Quadratic(goal, PlainGossip()) for goal in targets(3)]
    nodes[2].p2p_agg = NearestNeighborAveraging(f=9)
    p2p = PeerToPeer(nodes, [], Topology.complete(3), quorum=2)
    await play(p2p)
    assert p2p.history[0].through == ("honest-0", "honest-1")


def test_topology_size_and_missing_methods_are_said_at_construction():
    nodes = [Quadratic(goal) for goal in targets(3)]
    with pytest.raises(ValueError, match=r"4 \(honest first, then Byzantine\); got topology\.n=3"):
        PeerToPeer(nodes, [Constant(0.0)], Topology.ring(3))
    with pytest.raises(TypeError, match="p2p_half_step"):
        PeerToPeer([object()], [], Topology.ring(1))
    with pytest.raises(TypeError, match="p2p_broadcast_vector"):
        PeerToPeer(nodes, [object()], Topology.ring(4))
    with pytest.raises(ValueError, match="at least one honest node"):
        PeerToPeer([], [], Topology.ring(1))


@pytest.mark.parametrize("option", [{"lr": float("nan")}, {"lr": -1.0}, {"deadline": 0}, {"quorum": 4}])
def test_bad_options_are_refused(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        PeerToPeer([Stub(), Stub(), Stub()], [], Topology.ring(3), **option)


@pytest.mark.parametrize("length", [float("nan"), -0.5, float("inf"), "0.1", None])
async def test_a_schedule_that_gives_no_step_length_is_named_and_no_model_moves(length):
    lengths = [0.5, length, np.float32(0.5)]
    nodes = [Quadratic(goal, PlainGossip()) for goal in targets(3)]
    p2p = PeerToPeer(nodes, [], Topology.ring(3), lr=lambda t: lengths[t])
    await p2p.round()
    before = [node.theta.copy() for node in nodes]
    with pytest.raises((ValueError, TypeError), match=r"lr\(1\) must be"):
        await p2p.round()
    assert [report.round for report in p2p.history] == [0]
    assert all(np.array_equal(node.theta, it) for node, it in zip(nodes, before, strict=True))
    lengths[1] = 0.25
    await play(p2p, rounds=2)
    assert [report.excluded for report in p2p.history] == [(), (), ()]


@pytest.mark.parametrize("lr", [np.float32(0.25), np.float16(0.25), np.int64(0), 0])
def test_a_step_length_may_be_a_number_of_numpy(lr):
    given = []

    class Noting(Stub):
        def p2p_half_step(self, lr):
            given.append(lr)
            return super().p2p_half_step(lr)

    PeerToPeer([Noting(), Noting()], [], Topology.complete(2), lr=lr).round_sync()
    assert given == [float(lr)] * 2


@pytest.fixture
def heard(monkeypatch):
    """What byzflow logs. Dask turns the level of pytest's own handlers up while a cluster starts."""
    records: list[logging.LogRecord] = []
    ear = logging.Handler()
    monkeypatch.setattr(ear, "emit", records.append)
    log = logging.getLogger("byzflow")
    log.addHandler(ear)
    log.setLevel(logging.INFO)
    yield records
    log.setLevel(logging.NOTSET)
    log.removeHandler(ear)


async def test_whether_the_honest_nodes_are_connected_is_said(heard):
    nodes = [Quadratic(goal, PlainGossip()) for goal in targets(3)]
    p2p = PeerToPeer(nodes, [Constant(0.0)], Topology.star(4, center=3))
    await p2p.bootstrap()
    await p2p.bootstrap()
    (record,) = heard
    assert record.levelname == "WARNING"
    assert "not connected: the 3 honest nodes" in record.getMessage()
    assert p2p.connectivity.kind == "none"
    await p2p.shutdown()


async def test_a_run_that_was_shut_down_says_so():
    p2p = PeerToPeer([Stub()], [], Topology.ring(1))
    await p2p.shutdown()
    await p2p.shutdown()
    with pytest.raises(RuntimeError, match="stopped"):
        await p2p.round()
    with pytest.raises(RuntimeError, match="stopped"):
        await p2p.bootstrap()


async def test_sync_twins_work_inside_a_running_loop():
    nodes = [Quadratic(goal, PlainGossip()) for goal in targets(3)]
    p2p = PeerToPeer(nodes, [], Topology.ring(3))
    p2p.bootstrap_sync()
    p2p.round_sync()
    await p2p.round()
    p2p.shutdown_sync()
    assert len(p2p.history) == 2


async def test_the_runner_takes_the_same_arguments():
    nodes = [Quadratic(goal, PlainGossip()) for goal in targets(3)]
    runner = DecentralizedPeerToPeer(nodes, None, Topology.ring(3), lr=0.1)
    await runner.start()
    await runner.run_round_async()
    await asyncio.to_thread(runner.run_round)
    await runner.stop()
    assert [report.round for report in runner.history] == [0, 1]


async def test_a_client_carries_the_pipelines_of_a_run_and_is_left_open():
    async with (
        LocalCluster(n_workers=1, processes=False, asynchronous=True, dashboard_address=":0") as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        nodes = [Quadratic(goal, PlainGossip()) for goal in targets(2)]
        async with PeerToPeer(nodes, [], Topology.complete(2), client=client) as p2p:
            await p2p.round()
            application = p2p._cluster.nodes["0"].application
            operator = RemoteCallableOp(lambda x: 2 * x, input_mapping={"x": "x"})
            graph = make_single_operator_graph(node_name="y", operator=operator, input_keys=["x"])
            application.register_pipeline("double", graph)
            assert await application.run_pipeline("double", {"x": 21}) == {"y": 42}
            assert application.pool.runtime.client is client
        assert client.status == "running"
    with pytest.raises(TypeError, match="client must be"):
        PeerToPeer(nodes, [], Topology.complete(2), client=3)
