"""Vectors that stay with their hosts: refused for the same reasons, and as safe, as when they travel."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from byzflow.engine.node.actors import Recipe
from byzflow.engine.peer_to_peer.gossip import PlainGossip
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from tests.engine.peer_to_peer.held import (
    GOALS,
    HONEST,
    LIARS,
    SHORT,
    D,
    assert_same,
    recipes,
    trained,
    workers,
)
from tests.engine.peer_to_peer.nodes import (
    Constant,
    Failing,
    Hanging,
    Quadratic,
    Vandal,
)
from tests.engine.rounds.malformed import Malformed

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
    p2p = PeerToPeer(nodes, [], Topology.complete(4), lr=1.0, deadline=1.0)
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
