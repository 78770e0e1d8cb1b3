"""What nodes are told before they mix: weights and seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.pipeline import Pipeline
from byzflow.engine.node.mixin import P2PHonestMixin
from byzflow.engine.node.torch import TorchHonestNode
from byzflow.engine.peer_to_peer.gossip import PlainGossip
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from byzflow.engine.peer_to_peer.weights import mixing_matrix
from byzflow.pre_aggregators.bucketing import Bucketing
from byzflow.pre_aggregators.clipping import Clipping
from tests.engine.peer_to_peer.nodes import (
    Failing,
    Quadratic,
    play,
)


async def test_nodes_that_ask_for_mixing_weights_get_those_of_the_rows_that_came():
    class Weighted(Quadratic):
        def p2p_set_mixing(self, weights):
            self.p2p_agg = PlainGossip(mixing=tuple(weights))

    topology = Topology.star(4)
    nodes = [Weighted(np.full(1, float(i))) for i in range(4)]
    await play(PeerToPeer(nodes, [], topology, lr=1.0, mixing="metropolis"))
    expected = mixing_matrix(topology) @ np.arange(4.0)
    np.testing.assert_allclose([node.theta[0] for node in nodes], expected)

    nodes = [*(Weighted(np.full(1, float(i))) for i in range(3)), Failing(None)]
    await play(PeerToPeer(nodes, [], topology, lr=1.0, mixing="metropolis"))
    np.testing.assert_allclose(nodes[0].theta, 0.5 * 0 + 0.25 * 1 + 0.25 * 2)


class Mixing(P2PHonestMixin):
    """A node that stays where it is until it mixes."""

    def __init__(self, value, rule, pre=None):
        self.theta, self.p2p_agg, self.p2p_pre = torch.full((2,), float(value)), rule, pre

    def p2p_half_step(self, lr):
        return self.theta

    def set_param_vector(self, vec):
        self.theta = vec


@pytest.mark.parametrize(
    "rule", [PlainGossip(), Pipeline([Clipping(1e9)], PlainGossip())], ids=["rule", "pipeline"]
)
async def test_metropolis_weights_reach_the_rules_of_nodes_with_the_mixin(rule):
    edges = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (0, 2)]
    topology = Topology(5, [*edges, *((j, i) for i, j in edges)])
    nodes = [Mixing(i**2, rule) for i in range(5)]
    await play(PeerToPeer(nodes, [], topology, mixing="metropolis"), rounds=2)
    W = mixing_matrix(topology, "metropolis")
    want = W @ W @ np.arange(5.0) ** 2
    np.testing.assert_allclose([float(node.theta[0]) for node in nodes], want, rtol=1e-6)
    assert not np.allclose(want, np.full(5, 6.0))


async def test_metropolis_weights_reach_ready_made_nodes():
    data = torch.zeros(4, 1), torch.zeros(4, 1)

    def node(i):
        made = TorchHonestNode(
            torch.nn.Linear(1, 1), data, loss=torch.nn.MSELoss(), lr=0.0, node=i, p2p_agg=PlainGossip()
        )
        made.set_param_vector(torch.full((2,), float(i)))
        return made

    nodes, topology = [node(i) for i in range(4)], Topology.star(4)
    await play(PeerToPeer(nodes, [], topology, lr=0.0, mixing="metropolis"))
    want = mixing_matrix(topology, "metropolis") @ np.arange(4.0)
    np.testing.assert_allclose([float(n.get_param_vector()[0]) for n in nodes], want, rtol=1e-6)


async def test_weights_are_not_forced_on_rules_without_any():
    nodes = [Mixing(i, CoordinateWiseMedian()) for i in range(3)]
    await play(PeerToPeer(nodes, [], Topology.complete(3), mixing="metropolis"))
    assert [float(node.theta[0]) for node in nodes] == [1.0, 1.0, 1.0]


async def test_the_seed_of_a_run_decides_what_rules_draw():
    async def run(seed):
        nodes = [Mixing(i**2, CoordinateWiseMedian(), Bucketing(bucket_size=2)) for i in range(7)]
        await play(PeerToPeer(nodes, [], Topology.complete(7), seed=seed), rounds=1)
        return [float(node.theta[0]) for node in nodes]

    assert await run(3) == await run(3) != await run(4)
