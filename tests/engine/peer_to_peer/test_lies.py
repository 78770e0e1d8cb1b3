"""What a bad node can do in a peer-to-peer round, and what it cannot."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
import torch

from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.peer_to_peer.gossip import PlainGossip
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from tests.engine.peer_to_peer.nodes import (
    Constant,
    Failing,
    Quadratic,
    TwoFaced,
    Vandal,
    play,
)
from tests.engine.rounds.malformed import Malformed


async def test_a_byzantine_node_hears_this_rounds_in_neighbors_and_no_others():
    liar = Constant(0.0)
    nodes = [Quadratic(np.full(2, float(i)), PlainGossip()) for i in range(3)]
    topology = Topology(4, [(0, 3), (2, 3), (3, 1), (0, 1), (1, 2), (2, 0)])
    await play(PeerToPeer(nodes, [liar], topology, lr=1.0), rounds=2)
    assert [[float(v[0]) for v in seen] for seen in liar.seen] == [[0.0, 2.0], [0.0, 2.0]]


async def test_a_byzantine_node_that_hears_nobody_gets_a_template_of_zeros():
    liar = Constant(5.0)
    nodes = [Quadratic(np.ones(2), PlainGossip())]
    await play(PeerToPeer(nodes, [liar], Topology(2, [(1, 0)]), lr=1.0))
    assert [v.tolist() for v in liar.seen[0]] == [[0.0, 0.0]]
    np.testing.assert_array_equal(nodes[0].theta, [3.0, 3.0])


async def test_each_receiver_gets_its_own_lie_and_the_liar_knows_whom_it_answers():
    liar = TwoFaced()
    nodes = [Quadratic(np.full(2, float(i)), PlainGossip()) for i in range(2)]
    await play(PeerToPeer(nodes, [liar], Topology.complete(3), lr=1.0))
    np.testing.assert_allclose(nodes[0].theta, (0 + 1 + 100) / 3)
    np.testing.assert_allclose(nodes[1].theta, (1 + 0 + 200) / 3)
    assert liar.likes == {0: 0.0, 1: 1.0}


@pytest.mark.parametrize("make", [np.full, lambda n, v: torch.full((n,), v)], ids=["numpy", "torch"])
async def test_a_byzantine_node_can_change_neither_what_others_hold_nor_what_it_has_sent(make):
    goals = [make(3, float(i)) for i in range(3)]
    nodes = [Quadratic(goal, PlainGossip()) for goal in goals]
    await play(PeerToPeer(nodes, [Vandal(), Vandal()], Topology.complete(5), lr=1.0), rounds=2)
    for node in nodes:
        assert node.target.tolist() in [[0.0] * 3, [1.0] * 3, [2.0] * 3]
        np.testing.assert_allclose(np.asarray(node.theta), (0 + 1 + 2 + 1 + 1) / 5, rtol=1e-6)


@pytest.mark.parametrize(
    "answer", [RuntimeError("broken"), np.full(2, np.nan), np.zeros(3), np.zeros(2, np.float32), "junk", None]
)
async def test_a_bad_answer_is_left_out_with_its_reason_and_the_round_goes_on(answer):
    goals = [np.full(2, float(i)) for i in range(3)]
    nodes = [*(Quadratic(goal, PlainGossip()) for goal in goals), Failing(answer)]
    p2p = PeerToPeer(nodes, [Failing(answer)], Topology.complete(5), lr=1.0)
    await play(p2p)
    for node in nodes[:3]:
        np.testing.assert_allclose(node.theta, [1.0, 1.0])
    assert {e.node for e in p2p.history[0].excluded} == {"honest-3", "byzantine-0"}


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class EndlessError(Exception):
    gate = threading.Event()

    def __str__(self):
        self.gate.wait(timeout=30)
        return "at last"


@pytest.mark.parametrize("backend", [None, "thread"])
async def test_an_error_whose_text_never_ends_is_an_answer_that_is_late(backend):
    goals = [np.full(2, float(i)) for i in range(3)]
    honest = [Recipe(Quadratic, (goal, PlainGossip())) for goal in goals]
    liars = [Recipe(Failing, (EndlessError(),))]
    if backend is None:
        nodes, bad = ([r.factory(*r.args) for r in part] for part in (honest, liars))
    else:
        nodes = await HonestNodeActor.spawn_many(honest, backend=backend)
        bad = await ByzantineNodeActor.spawn_many(liars, backend=backend)
    p2p = PeerToPeer(nodes, bad, Topology.complete(4), lr=1.0, deadline=4.0)
    EndlessError.gate.clear()
    loop = asyncio.get_running_loop()
    async with p2p:
        begin = loop.time()
        await p2p.round()
        assert loop.time() - begin < 25
        EndlessError.gate.set()
    assert [(e.node, str(e.reason)) for e in p2p.history[0].excluded] == [("byzantine-0", "deadline")]


class NoCopy(np.ndarray):
    def copy(self, *order):
        raise RuntimeError("not to be copied")


class NoFunction(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError("not to be called")


ENDLESS: list = []
ENDLESS.append(ENDLESS)

UNFIT = {
    "endless": ENDLESS,
    "objects": np.array([1, "a"], dtype=object),
    "complex": np.zeros(2, dtype=complex),
    "records": np.zeros(2, dtype=[("a", "f8")]),
    "scalar": np.array(3.0),
    "sparse": torch.zeros(2, dtype=torch.float64).to_sparse(),
    "meta": torch.zeros(2, device="meta"),
    "no-copy": np.full(2, np.nan).view(NoCopy),
    "no-function": torch.zeros(2).as_subclass(NoFunction),
    "unspeakable": UnspeakableError(),
    "recursion": RecursionError(),
}


@pytest.mark.parametrize("answer", UNFIT.values(), ids=UNFIT)
async def test_no_answer_breaks_the_round_of_the_others(answer):
    goals = [np.full(2, float(i)) for i in range(3)]
    nodes = [*(Quadratic(goal, PlainGossip()) for goal in goals), Failing(answer)]
    p2p = PeerToPeer(nodes, [Failing(answer)], Topology.complete(5), lr=1.0)
    await play(p2p)
    np.testing.assert_allclose(nodes[0].theta, [1.0, 1.0])
    assert {e.node for e in p2p.history[0].excluded} == {"honest-3", "byzantine-0"}


async def test_malformed_answers_do_not_break_rounds():
    goals = [torch.full((3,), float(i)) for i in range(3)]
    nodes = [Quadratic(goal, PlainGossip()) for goal in goals]
    bad = [Malformed(i) for i in range(6)]
    p2p = PeerToPeer([*nodes, *bad[:3]], bad[3:], Topology.complete(9), lr=1.0)
    async with p2p:
        for number in range(12):
            await p2p.round()
            assert nodes[0].theta.tolist() == pytest.approx([1.0, 1.0, 1.0])
            assert {e.node for e in p2p.history[number].excluded} == {
                *(f"honest-{i}" for i in (3, 4, 5)), *(f"byzantine-{i}" for i in range(3))
            }  # fmt: skip
