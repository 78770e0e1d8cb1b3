"""Peers whose neighbours are missing: rules and what they remember mean the same nodes as before."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pytest
import torch
from torch import nn

from byzflow.aggregators.average import Average
from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
from byzflow.aggregators.geometric_wise import MoNNA, MultiKrum
from byzflow.aggregators.norm_wise import ClippedClustering, FLTrust, FoolsGold, StatefulCenteredClipping
from byzflow.aggregators.pipeline import Pipeline
from byzflow.attacks import MimicLearnedAttack
from byzflow.engine.checkpoint import Checkpoint
from byzflow.engine.node.actors import HonestNodeActor, Recipe
from byzflow.engine.node.mixin import P2PByzantineMixin, P2PHonestMixin
from byzflow.engine.node.torch import TorchHonestNode
from byzflow.engine.peer_to_peer.gossip import (
    UBAR,
    BridgeTrimmedMean,
    ClippedGossip,
    IterativeOutlierScissor,
    NearestNeighborAveraging,
    PlainGossip,
)
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from byzflow.exceptions import ToleranceError
from byzflow.pre_aggregators import Bucketing, Clipping, NearestNeighborMixing
from tests.engine.parameter_server.mortal import die_once

N, OUT, D = 5, 2, 4
RING, COMPLETE = Topology.ring(N), Topology.complete(N)


class Peer(P2PHonestMixin):
    """Steps by noise, and fails in the rounds it is told to."""

    def __init__(self, number: int, rule: Any, pre: Any = None, fails: Any = ()) -> None:
        self.number, self.p2p_agg, self.p2p_pre, self.fails = number, rule, pre, fails
        self.theta, self.round = torch.zeros(D), 0

    def p2p_half_step(self, lr: float) -> torch.Tensor:
        round, self.round = self.round, self.round + 1
        if round in self.fails:
            raise ValueError("out of order")
        return half(self.theta, self.number, round)

    def set_param_vector(self, vec: torch.Tensor) -> None:
        self.theta = vec

    def get_param_vector(self) -> torch.Tensor:
        return self.theta


def half(theta: torch.Tensor, number: int, round: int) -> torch.Tensor:
    return theta + torch.from_numpy(np.random.default_rng((number, round)).normal(size=D)).float()


def peers(rule: Any, pre: Any = None, fails: Any = None) -> list[Peer]:
    return [Peer(i, rule, pre, (fails or {}).get(i, ())) for i in range(N)]


async def thetas(nodes: list[Any], topology: Any, rounds: int, **options: Any) -> list[torch.Tensor]:
    async with PeerToPeer(nodes, [], topology, **options) as run:
        for _ in range(rounds):
            await run.round()
        return [node.theta if isinstance(node, Peer) else await node.get_param_vector() for node in nodes]


def first(rows: Any, rule: Any, pre: Any = None) -> torch.Tensor:
    return rule.aggregate(rows if pre is None else pre.pre_aggregate(rows))


def rows_at(node: int, topology: Topology, out: Any = (OUT,)) -> list[torch.Tensor]:
    """The rows of a first round."""
    came = [node, *(j for j in topology.in_neighbors(node) if j not in out)]
    return [half(torch.zeros(D), j, 0) for j in came]


@pytest.mark.parametrize(
    ("rule", "pre", "fewer", "pre_fewer"),
    [
        (MultiKrum(f=3, q=1), None, MultiKrum(f=2, q=1), None),
        (CoordinateWiseTrimmedMean(f=2), None, CoordinateWiseTrimmedMean(f=1), None),
        (
            BridgeTrimmedMean(f=1),
            NearestNeighborMixing(f=1),
            BridgeTrimmedMean(f=1),
            NearestNeighborMixing(f=1),
        ),
        (MoNNA(f=2), Clipping(0.5), MoNNA(f=1), Clipping(0.5)),
        (
            Pipeline((NearestNeighborMixing(f=2),), CoordinateWiseTrimmedMean(f=2)),
            None,
            Pipeline((NearestNeighborMixing(f=1),), CoordinateWiseTrimmedMean(f=1)),
            None,
        ),
    ],
    ids=["krum", "trimmed", "as given", "monna", "pipeline"],
)
async def test_f_is_lowered_by_the_missing_neighbours_where_the_rule_cannot_run(
    rule: Any, pre: Any, fewer: Any, pre_fewer: Any
) -> None:
    got = await thetas(peers(rule, pre, {OUT: {0}}), COMPLETE, 1)
    for node in (0, 1, 3, 4):
        assert torch.equal(got[node], first(rows_at(node, COMPLETE), fewer, pre_fewer))


async def test_more_missing_neighbours_than_f_are_not_the_liars_that_f_was_for() -> None:
    rule = NearestNeighborAveraging(f=2)
    topology = Topology(N, [(1, 0), (2, 0)])
    nodes = peers(rule, None, {1: {0}, 2: {0}})
    got = await thetas(nodes, topology, 1)
    assert torch.equal(got[0], half(torch.zeros(D), 0, 0))
    nodes = peers(NearestNeighborAveraging(f=1), None, {1: {0}, 2: {0}})
    with pytest.raises(ToleranceError, match="cannot run on what reached them: honest-0"):
        await thetas(nodes, topology, 1)


WEIGHTS = (0.1, 0.2, 0.3, 0.15, 0.25)
PLACE = 2  # of node 3 in the rows of node 0; that of node 2 there is one less


def loss(x: Any) -> float:
    return float((x**2).sum())


@pytest.mark.parametrize(
    ("rule", "meant"),
    [
        (FLTrust(reference_index=PLACE + 1), FLTrust(reference_index=PLACE)),
        (MoNNA(f=1, reference_index=PLACE + 1), MoNNA(f=1, reference_index=PLACE)),
        (MoNNA(f=1, reference_index=PLACE), MoNNA(f=1, reference_index=0)),
        (Average(node_weights=WEIGHTS), Average(node_weights=(0.1, 0.2, 0.15, 0.25))),
        (PlainGossip(mixing=WEIGHTS), PlainGossip(mixing=(0.4, 0.2, 0.15, 0.25))),
        (ClippedGossip(tau=0.5, mixing=WEIGHTS), ClippedGossip(tau=0.5, mixing=(0.4, 0.2, 0.15, 0.25))),
        (IterativeOutlierScissor(f=1), IterativeOutlierScissor(f=1)),
        (UBAR(rho=0.7, losses=(3.0, 1.0, 0.0, 9.0, 2.0)), UBAR(rho=0.7, losses=(3.0, 1.0, 9.0, 2.0))),
        (UBAR(rho=0.7, loss=loss), UBAR(rho=0.7, loss=loss)),
    ],
)
async def test_options_that_count_rows_mean_the_same_neighbours(rule: Any, meant: Any) -> None:
    nodes = [Peer(0, rule), *(Peer(i, Average(), None, {0} if i == OUT else ()) for i in range(1, N))]
    (got, *_) = await thetas(nodes, COMPLETE, 1)
    torch.testing.assert_close(got, first(rows_at(0, COMPLETE), meant), rtol=0, atol=1e-6)


async def test_nobody_takes_the_place_of_a_trusted_neighbour() -> None:
    nodes = [Peer(0, FLTrust(reference_index=2)), *peers(Average(), None, {OUT: {0}})[1:]]
    with pytest.raises(ToleranceError, match="trusted node, number 2"):
        await thetas(nodes, COMPLETE, 1)


async def test_weights_that_a_run_tells_are_those_of_the_rows_that_came() -> None:
    got = await thetas(peers(PlainGossip(), None, {OUT: {0}}), RING, 1, mixing="metropolis")
    rows = rows_at(1, RING)
    want = PlainGossip(mixing=(2 / 3, 1 / 3)).aggregate(rows)
    torch.testing.assert_close(got[1], want)


async def test_nodes_of_ones_own_are_called_as_ever() -> None:
    class Own(Peer):
        seen: Any = None

        def p2p_aggregate_and_set(self, self_theta_half: Any, neighbor_vectors: Any) -> None:
            self.seen = [self_theta_half, *neighbor_vectors]

    nodes = [Own(i, None, None, {0} if i == OUT else ()) for i in range(N)]
    await thetas(nodes, COMPLETE, 1)
    for node in (0, 4):
        assert all(map(torch.equal, nodes[node].seen, rows_at(node, COMPLETE)))


@pytest.mark.parametrize(("rule", "told"), [(Average(), [0, 2]), (FoolsGold(), [0, 1, 2, 3])])
async def test_nodes_are_told_whom_they_hear_when_they_want_to_know(rule: Any, told: Any) -> None:
    class Curious(Peer):
        def p2p_set_neighbors(self, node: int, neighbors: Any, missing: Any) -> bool:
            heard.append((self.round - 1, node, tuple(neighbors), tuple(missing)))
            return super().p2p_set_neighbors(node, neighbors, missing)

    heard: list[Any] = []
    await thetas([Curious(0, rule), *peers(Average(), None, {OUT: {2}})[1:]], COMPLETE, 4)
    assert heard == [(round, 0, (1, 2, 3, 4), (OUT,) if round == 2 else ()) for round in told]


# What a rule remembers, carried by hand.

FAILS = {OUT: {1}, 4: {3}}
CHANGING = [COMPLETE, RING, Topology.ring(N, 2), Topology.star(N, center=1)]
ROUNDS = 6
STATEFUL = [
    FoolsGold(),
    Pipeline((Clipping(1.5),), FoolsGold(confidence=0.5)),
    StatefulCenteredClipping(c_tau=0.5, init="median"),
    ClippedClustering(),
]


def by_hand(rule: Any, topology: Any, rounds: int = ROUNDS) -> list[torch.Tensor]:
    """A rule by node has a state for all nodes of the run; those that a peer does not hear are absent."""
    theta, states = [torch.zeros(D) for _ in range(N)], [None] * N
    for round in range(rounds):
        at = topology if isinstance(topology, Topology) else topology[round % len(topology)]
        here = [i for i in range(N) if round not in FAILS.get(i, ())]
        sent = {i: half(theta[i], i, round) for i in here}
        for i in here:
            senders = [j for j in at.in_neighbors(i) if j in sent]
            if not at.in_neighbors(i):
                theta[i] = sent[i]
                continue
            rows, told = [sent[i], *(sent[j] for j in senders)], rule
            if rule.by_node:
                everybody = [i, *(j for j in range(N) if j != i)]
                told = rule.without([p for p, j in enumerate(everybody) if j not in (i, *senders)])
            theta[i], states[i] = told.step(rows, states[i])
    return theta


@pytest.mark.parametrize("topology", [COMPLETE, RING, CHANGING], ids=["complete", "ring", "changing"])
@pytest.mark.parametrize("rule", STATEFUL, ids=["foolsgold", "pipeline", "clipping", "clustering"])
async def test_what_a_rule_remembers_stays_with_its_node(rule: Any, topology: Any) -> None:
    got = await thetas(peers(rule, None, FAILS), topology, ROUNDS)
    for mine, other in zip(got, by_hand(rule, topology), strict=True):  # which sums more zeros
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


async def test_foolsgold_remembers_more_than_the_last_round() -> None:
    got = await thetas(peers(FoolsGold()), COMPLETE, 3)
    anew = [torch.zeros(D)] * N
    for round in range(3):
        rows = [half(anew[i], i, round) for i in range(N)]
        anew = [FoolsGold().aggregate([rows[i], *rows[:i], *rows[i + 1 :]]) for i in range(N)]
    assert not torch.allclose(got[0], anew[0])


async def test_buckets_have_no_history_and_a_rule_that_wants_one_starts_anew() -> None:
    pre = Bucketing(2, perm=(0, 1, 2, 3, 4))
    nodes = peers(FoolsGold(), pre, {OUT: {1}})
    await thetas(nodes, COMPLETE, 3)
    assert all(node.p2p_state is None for node in nodes)


@pytest.mark.parametrize("backend", ["thread", pytest.param("process", marks=pytest.mark.processes)])
@pytest.mark.parametrize("rule", [FoolsGold(), CoordinateWiseTrimmedMean(f=2)], ids=["foolsgold", "trimmed"])
async def test_hosts_fit_and_remember_as_plain_objects_do(rule: Any, backend: str) -> None:
    fails = {OUT: {1}}
    recipes = [Recipe(Peer, (i, rule, None, fails.get(i, ()))) for i in range(N)]
    got = await thetas(await HonestNodeActor.spawn_many(recipes, backend=backend), COMPLETE, 4)
    assert all(map(torch.equal, got, await thetas(peers(rule, None, fails), COMPLETE, 4)))


class Mortal(Peer):
    """Kills its own worker once in a round."""

    def __init__(self, number: int, flags: str) -> None:
        super().__init__(number, FoolsGold(), None, FAILS.get(number, ()))
        self.node, self.flags, self.deaths = number, flags, {"aggregate": 5} if number == 1 else {}

    def p2p_aggregate_and_set(self, self_theta_half: Any, neighbor_vectors: Any) -> None:
        die_once(self, "aggregate")
        super().p2p_aggregate_and_set(self_theta_half, neighbor_vectors)


@pytest.mark.processes
async def test_a_node_that_is_made_anew_remembers_the_same(tmp_path: Any) -> None:
    settings = {"byzflow.round.snapshot-every": 3, "byzflow.comm.connect-timeout": "120s"}
    with dask.config.set({"byzflow.cluster.workers": 2, **settings}):
        recipes = [Recipe(Mortal, (i, str(tmp_path))) for i in range(N)]
        nodes = await HonestNodeActor.spawn_many(recipes, backend="process")
        async with PeerToPeer(nodes, [], CHANGING) as run:
            for _ in range(ROUNDS):
                await run.round()
            got = [await node.get_param_vector() for node in nodes]
    assert any(report.respawned for report in run.history)
    assert all(map(torch.equal, got, await thetas(peers(FoolsGold(), None, FAILS), CHANGING, ROUNDS)))


def learner(number: int) -> TorchHonestNode:
    stream = torch.Generator().manual_seed(number)
    data = torch.randn(40, 3, generator=stream), torch.randn(40, 1, generator=stream)
    options: dict[str, Any] = {"loss": nn.MSELoss(), "seed": 3, "node": number, "p2p_agg": FoolsGold()}
    return TorchHonestNode(lambda: nn.Linear(3, 1), data, **options)


@pytest.mark.parametrize(
    "make", [learner, lambda i: Peer(i, FoolsGold(), None, FAILS.get(i, ()))], ids=["ready-made", "own"]
)
async def test_a_run_that_resumes_remembers_the_same(make: Any, tmp_path: Any) -> None:
    async def run(rounds: int, store: Any = None, resume: bool = False) -> list[torch.Tensor]:
        nodes = [make(i) for i in range(N)]
        async with PeerToPeer(nodes, [], CHANGING, checkpoint=store) as p2p:
            done = await p2p.resume() if resume else 0
            for _ in range(done, rounds):
                await p2p.round()
        return [node.get_param_vector() for node in nodes]

    want, store = await run(ROUNDS), Checkpoint(tmp_path / "run.safetensors", every=2)
    await run(5, store)
    assert all(map(torch.equal, await run(ROUNDS, store, resume=True), want))


async def test_an_attack_of_a_plain_byzantine_peer_remembers_too() -> None:
    class Liar(P2PByzantineMixin):
        device, attack = "cpu", MimicLearnedAttack()

    liar, state, stream = Liar(), None, np.random.default_rng(0)
    for h in (4, 3, 4):
        shown = list(torch.from_numpy(stream.normal(size=(h, D))).float())
        want, state = liar.attack.step(state, honest_grads=shown)
        assert torch.equal(liar.p2p_broadcast_vector(neighbor_vectors=shown, like=shown[0]), want)
