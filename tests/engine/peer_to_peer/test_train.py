"""Peer-to-peer rounds with nodes of this process: what reaches the models."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from byzflow.aggregators.average import Average
from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.peer_to_peer.gossip import ClippedGossip, NearestNeighborAveraging, PlainGossip
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from byzflow.pre_aggregators.nnm import NearestNeighborMixing
from tests.engine.peer_to_peer.nodes import (
    Constant,
    Coroutines,
    Quadratic,
    Stub,
    by_hand,
    play,
    targets,
)


async def test_three_rounds_equal_the_definition_by_hand():
    goals, topology, rule = targets(4), Topology.ring(5), CoordinateWiseMedian()
    nodes = [Quadratic(goal, rule) for goal in goals]
    await play(PeerToPeer(nodes, [Constant(7.0)], topology, lr=0.3), rounds=3)
    thetas = [goal * 0 for goal in goals]
    for _ in range(3):
        thetas = by_hand(thetas, goals, topology, 0.3, [rule.aggregate] * 4, lambda j, i: goals[0] * 0 + 7.0)
    for node, theta in zip(nodes, thetas, strict=True):
        np.testing.assert_array_equal(node.theta, theta)


async def test_every_node_mixes_with_its_own_rules():
    goals, topology = targets(5), Topology.complete(5)
    pre, rules = NearestNeighborMixing(f=1), [Average(), CoordinateWiseMedian(), NearestNeighborAveraging(2)]
    nodes = [Quadratic(goal, rules[i % 3], pre if i == 4 else None) for i, goal in enumerate(goals)]
    await play(PeerToPeer(nodes, None, topology, lr=0.5))
    mixes = [rules[i % 3].aggregate for i in range(4)]
    mixes.append(lambda rows: rules[1].aggregate(pre.pre_aggregate(rows)))
    expected = by_hand([g * 0 for g in goals], goals, topology, 0.5, mixes)
    for node, theta in zip(nodes, expected, strict=True):
        np.testing.assert_array_equal(node.theta, theta)


async def test_models_mix_and_reach_consensus():
    goals = targets(6)
    nodes = [Quadratic(goal, PlainGossip()) for goal in goals]
    p2p = PeerToPeer(nodes, None, Topology.ring(6), lr=lambda round: 0.5 / (1 + round))
    await play(p2p, rounds=60)
    distances = [report.consensus_distance for report in p2p.history]
    assert distances[-1] < 1e-2 * distances[0]
    assert all(report.consensus_distance < report.spread for report in p2p.history)
    np.testing.assert_allclose(nodes[0].theta, np.mean(goals, axis=0), atol=0.1)


async def test_nodes_that_hear_nobody_count_with_their_half_steps():
    empty, nodes = Topology(3, []), [Quadratic(np.full(2, float(i)), PlainGossip()) for i in range(3)]
    p2p = PeerToPeer(nodes, [], [empty, Topology.complete(3)], lr=0.5)
    await p2p.round()
    await p2p.round()
    first, second = p2p.history
    assert first.consensus_distance == first.spread > 0
    assert second.consensus_distance < 1e-12


async def test_consensus_distance_is_that_of_what_the_nodes_hold():
    nodes = [Quadratic(goal, PlainGossip()) for goal in targets(4)]
    p2p = PeerToPeer(nodes, None, Topology.ring(4))
    await play(p2p)
    X = np.stack([node.theta for node in nodes])
    assert p2p.history[0].consensus_distance == pytest.approx(((X - X.mean(0)) ** 2).sum(1).mean())


async def test_coroutines_and_functions_train_side_by_side():
    goals, rule = targets(2), PlainGossip()
    nodes = [Coroutines(goals[0], rule), Quadratic(goals[1], rule)]
    await play(PeerToPeer(nodes, [], Topology.complete(2), lr=1.0))
    np.testing.assert_array_equal(nodes[0].inner.theta, (goals[0] + goals[1]) / 2)
    np.testing.assert_array_equal(nodes[1].theta, nodes[0].inner.theta)


async def test_stub_nodes_without_a_mixing_method_step_in_every_round():
    nodes = [Stub(), Stub(), Stub()]
    p2p = PeerToPeer(nodes, [], Topology.ring(3))
    await play(p2p, rounds=4)
    assert [node.steps for node in nodes] == [4, 4, 4]
    assert p2p.history[-1].consensus_distance is None
    assert p2p.history[-1].spread == 0


async def test_topologies_change_with_the_round():
    nodes = [Quadratic(np.full(1, float(i)), PlainGossip()) for i in range(4)]
    pairs = [Topology(4, [(0, 1), (1, 0), (2, 3), (3, 2)]), Topology(4, [(0, 2), (2, 0), (1, 3), (3, 1)])]
    p2p = PeerToPeer(nodes, [], lambda t: pairs[t % 2], lr=lambda t: 1.0 if t == 0 else 0.0)
    async with p2p:
        await p2p.round()
        assert [float(node.theta[0]) for node in nodes] == [0.5, 0.5, 2.5, 2.5]
        await p2p.round()
        assert [float(node.theta[0]) for node in nodes] == [1.5] * 4


async def test_clipped_gossip_holds_where_plain_gossip_is_dragged_away():
    def final(rule):
        nodes = [Quadratic(goal, rule) for goal in targets(6)]
        p2p = PeerToPeer(nodes, [Constant(1e3)], Topology.complete(7), lr=0.1)
        for _ in range(30):
            p2p.round_sync()
        p2p.shutdown_sync()
        return max(float(np.abs(node.theta).max()) for node in nodes)

    assert await asyncio.to_thread(final, ClippedGossip(delta=1 / 7)) < 5
    assert await asyncio.to_thread(final, PlainGossip()) > 100
