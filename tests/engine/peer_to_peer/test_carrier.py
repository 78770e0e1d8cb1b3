"""Contexts that a user brings carry the vectors, and what they lose is left out."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from byzflow.engine.node.context import DaskContext, InProcessContext
from byzflow.engine.peer_to_peer.gossip import PlainGossip
from byzflow.engine.peer_to_peer.schedule import one_peer_exponential
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from tests.engine.peer_to_peer.nodes import Constant, Quadratic, TwoFaced


def nodes(h):
    return [Quadratic(np.full(2, float(i)), PlainGossip()) for i in range(h)]


async def play(honest, liars, topology, factory, rounds=2, **options):
    p2p = PeerToPeer(honest, liars, topology, lr=0.5, context_factory=factory, **options)
    async with p2p:
        for _ in range(rounds):
            await p2p.round()
        assert list(p2p._cluster.nodes) == [str(i) for i in range(len(honest) + len(liars))]
    return [node.theta.tolist() for node in honest], p2p


@pytest.mark.parametrize(
    "make", [InProcessContext, lambda: DaskContext("thread")], ids=["in-process", "dask"]
)
@pytest.mark.parametrize("liar", [lambda: Constant(9.0), TwoFaced])
async def test_vectors_that_contexts_carry_give_the_same_models(make, liar):
    seen = []

    def factory(node_id, index):
        seen.append((node_id, index))
        return make()

    got, _ = await play(nodes(3), [liar()], Topology.ring(4), factory)
    want, _ = await play(nodes(3), [liar()], Topology.ring(4), None)
    assert got == want
    assert seen == [("0", 0), ("1", 1), ("2", 2), ("3", 3)]


async def test_topologies_that_change_are_carried_too():
    got, _ = await play(nodes(4), [], one_peer_exponential(4), lambda name, i: InProcessContext())
    want, _ = await play(nodes(4), [], one_peer_exponential(4), None)
    assert got == want


class Lossy(InProcessContext):
    """Loses what goes to node 0, by saying nothing or by an error."""

    def __init__(self, error=None):
        super().__init__()
        self.error = error

    async def send_message(self, to_node_id, message_type, payload):
        if to_node_id != "0":
            await super().send_message(to_node_id, message_type, payload)
        elif self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [(None, "deadline"), (ConnectionError("cut"), "raised"), (RuntimeError("no"), "raised")],
)
async def test_what_a_context_loses_is_left_out_with_its_reason(error, reason):
    def factory(name, index):
        return Lossy(error) if index == 2 else InProcessContext()

    honest = nodes(3)
    _, p2p = await play(honest, [], Topology.complete(3), factory, rounds=1, deadline=1.0)
    np.testing.assert_allclose(honest[0].theta, 0.5 * (0 + 0.5))
    np.testing.assert_allclose(honest[1].theta, 0.5)
    (exclusion,) = p2p.history[0].excluded
    assert (exclusion.node, exclusion.phase, exclusion.reason) == ("honest-2", "exchange", reason)
    assert "by honest-0" in exclusion.detail


class Blocking(InProcessContext):
    """Holds up the whole loop with what goes to node 0, and then takes some turns of it."""

    async def send_message(self, to_node_id, message_type, payload):
        if to_node_id == "0":
            stand_still(0.3)
        for _ in range(5):
            await asyncio.sleep(0.005)
        await super().send_message(to_node_id, message_type, payload)


def stand_still(seconds):
    time.sleep(seconds)


async def test_a_context_that_holds_up_the_loop_makes_no_vector_late():
    _, p2p = await play(
        nodes(3), [], Topology.complete(3), lambda name, i: Blocking(), rounds=1, deadline=0.2
    )
    assert p2p.history[0].excluded == ()


@pytest.mark.parametrize(
    "payload", [None, "hello", {"vector": 1}, {"vector": 1, "round": [0], "from": {}}], ids=repr
)
async def test_a_message_of_another_form_is_dropped_and_the_next_ones_are_taken(payload):
    p2p = PeerToPeer(
        nodes(3), [], Topology.ring(3), context_factory=lambda name, i: InProcessContext(), deadline=20.0
    )
    async with p2p:
        await p2p._cluster.nodes["2"].send_message("0", "gradient", payload)
        await p2p.round()
        assert p2p.history[0].excluded == ()


async def test_messages_are_not_kept():
    p2p = PeerToPeer(nodes(3), [], Topology.ring(3), context_factory=lambda name, i: InProcessContext())
    async with p2p:
        for _ in range(3):
            await p2p.round()
        for node in p2p._cluster.nodes.values():
            assert node.scheduler.statistics().cached == 0


async def test_contexts_of_another_loop_are_said():
    p2p = PeerToPeer(nodes(2), [], Topology.ring(2), context_factory=lambda name, i: InProcessContext())
    await p2p.bootstrap()
    with pytest.raises(RuntimeError, match="event loop"):
        p2p.round_sync()
    await p2p.shutdown()
    assert not any(node._running for node in p2p._cluster.nodes.values())


@pytest.mark.parametrize(
    "make", [InProcessContext, lambda: DaskContext("thread")], ids=["in-process", "dask"]
)
def test_contexts_start_again_where_every_round_has_an_event_loop_of_its_own(make):
    honest = nodes(3)
    p2p = PeerToPeer(honest, [], Topology.ring(3), lr=0.5, context_factory=lambda name, i: make())
    p2p.bootstrap_sync()
    p2p.round_sync()
    asyncio.run(p2p.round())
    p2p.shutdown_sync()
    want, _ = asyncio.run(play(nodes(3), [], Topology.ring(3), None))
    assert [node.theta.tolist() for node in honest] == want
    assert not any(node.context._running for node in p2p._cluster.nodes.values())


async def test_contexts_stop_from_another_event_loop():
    p2p = PeerToPeer(nodes(2), [], Topology.ring(2), context_factory=lambda name, i: InProcessContext())
    await p2p.bootstrap()
    p2p.shutdown_sync()
    assert not any(node.context._running for node in p2p._cluster.nodes.values())


@pytest.mark.parametrize(
    "make", [InProcessContext, lambda: DaskContext("thread")], ids=["in-process", "dask"]
)
async def test_two_runs_at_once_do_not_get_each_others_vectors(make):
    teams = [nodes(3), nodes(5)[2:]]
    wanted = [(await play(team, [], Topology.ring(3), None))[0] for team in (nodes(3), nodes(5)[2:])]
    runs = [
        PeerToPeer(team, [], Topology.ring(3), lr=0.5, context_factory=lambda name, i: make(), deadline=9.0)
        for team in teams
    ]
    async with runs[0], runs[1]:
        for run in runs * 2:
            await run.round()
    assert [[node.theta.tolist() for node in team] for team in teams] == wanted
    assert not any(report.excluded for run in runs for report in run.history)
