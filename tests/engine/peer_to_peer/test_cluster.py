"""Every rule in peer-to-peer mode, nodes on every kind of host, kills and resumed runs: the same bits."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import torch
from distributed import LocalCluster

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.actor.backends.thread import ThreadActorBackend
from byzflow.engine.checkpoint import Checkpoint
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.peer_to_peer import gossip
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from byzflow.exceptions import CheckpointError
from byzflow.pre_aggregators.nnm import NearestNeighborMixing
from tests.cases import CASES
from tests.engine.peer_to_peer.far import share_no_memory
from tests.engine.peer_to_peer.held import let_none_stay
from tests.engine.peer_to_peer.mortal import CountingLiar, MortalPeer
from tests.engine.peer_to_peer.nodes import Constant, Quadratic, Stub, TwoFaced, Vandal, by_hand

RULES = [case for case in CASES if case.rule.startswith("aggregators.")]
PRES = [case for case in CASES if case.rule.startswith("pre_aggregators.")]
HONEST, LIARS = 9, 2
GOALS = [torch.from_numpy(row) for row in np.random.default_rng(3).normal(size=(HONEST, 5))]
COMPLETE = Topology.complete(HONEST + LIARS)


def expected(mix, topology=COMPLETE, rounds=1, lie=-3.0):
    thetas = [goal * 0 for goal in GOALS]
    for _ in range(rounds):
        thetas = by_hand(thetas, GOALS, topology, 0.2, [mix] * HONEST, lambda j, i: GOALS[0] * 0 + lie)
    return thetas


async def trained(honest, liars, topology=COMPLETE, rounds=1):
    p2p = PeerToPeer(honest, liars, topology, lr=0.2, deadline=30.0)
    async with p2p:
        for _ in range(rounds):
            await p2p.round()
        told = [node.get_param_vector() for node in honest]
        return [theta if isinstance(theta, torch.Tensor) else await theta for theta in told], p2p


def assert_same(got, want):
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("case", RULES, ids=lambda case: case.name)
async def test_models_mix_by_every_aggregator_as_defined(case):
    rule = case.make(HONEST + LIARS)
    got, p2p = await trained(
        [Quadratic(g, rule) for g in GOALS], [Constant(-3.0) for _ in range(LIARS)], rounds=2
    )
    assert_same(got, expected(rule.aggregate, rounds=2))
    assert p2p.history[1].excluded == ()


@pytest.mark.parametrize("case", PRES, ids=lambda case: case.name)
async def test_models_mix_after_every_pre_aggregator_as_defined(case):
    pre, rule = case.make(HONEST + LIARS), CoordinateWiseMedian()
    got, _ = await trained([Quadratic(g, rule, pre) for g in GOALS], [Constant(-3.0) for _ in range(LIARS)])
    assert_same(got, expected(lambda rows: rule.aggregate(pre.pre_aggregate(rows))))


GOSSIP = (
    gossip.PlainGossip(),
    gossip.ClippedGossip(delta=0.3),
    gossip.RemoveThenClip(0.3),
    gossip.NearestNeighborAveraging(2),
    gossip.IterativeOutlierScissor(2),
    gossip.BridgeTrimmedMean(2),
    gossip.BridgeMedian(),
    gossip.UBAR(rho=0.7, losses=range(11)),
)


async def spawned(backend, rules, pre=None, liar=Constant, args=(-3.0,)):
    recipes = [Recipe(Quadratic, (g, rules[i % len(rules)], pre)) for i, g in enumerate(GOALS)]
    honest = await HonestNodeActor.spawn_many(recipes, backend=backend)
    return honest, await ByzantineNodeActor.spawn_many([Recipe(liar, args)] * LIARS, backend=backend)


@pytest.mark.parametrize("rule", GOSSIP, ids=lambda rule: rule.name)
async def test_models_mix_by_every_gossip_rule_on_spawned_nodes(rule):
    honest, liars = await spawned("thread", [rule])
    got, _ = await trained(honest, liars, rounds=2)
    assert_same(got, expected(rule.aggregate, rounds=2))


@pytest.mark.processes
async def test_worker_processes_give_the_bits_of_plain_objects():
    topology, pre = Topology.ring(HONEST + LIARS, 3), NearestNeighborMixing(f=2)
    got, there = await trained(*await spawned("process", GOSSIP[1:4], pre), topology, rounds=3)
    plain = [Quadratic(g, GOSSIP[1 + i % 3], pre) for i, g in enumerate(GOALS)]
    want, here = await trained(plain, [Constant(-3.0) for _ in range(LIARS)], topology, rounds=3)
    assert_same(got, want)
    for remote, local in zip(there.history, here.history, strict=True):
        assert remote.consensus_distance == local.consensus_distance
        assert remote.norms == local.norms
        assert remote.bytes_moved > 0 == local.bytes_moved


async def test_spawned_byzantine_nodes_send_each_receiver_its_own_and_change_nothing():
    rule = gossip.PlainGossip()
    honest, _ = await spawned("thread", [rule], liar=Vandal, args=())
    liars = await ByzantineNodeActor.spawn_many([Recipe(Vandal), Recipe(TwoFaced)], backend="thread")
    got, _ = await trained(honest, liars)
    halves = torch.stack([0.2 * goal for goal in GOALS])
    for i, theta in enumerate(got):
        torch.testing.assert_close(theta, (halves.sum(dim=0) + 1.0 + 100.0 * (i + 1)) / (HONEST + 2))


async def test_stub_nodes_on_a_backend_instance_run_rounds():
    honest = [await HonestNodeActor.spawn(Stub, backend=ThreadActorBackend()) for _ in range(3)]
    p2p = PeerToPeer(honest, [], Topology.ring(3))
    await p2p.bootstrap()
    for _ in range(3):
        await p2p.round()
    assert [len(report.through) for report in p2p.history] == [3, 3, 3]
    await p2p.shutdown()


async def test_a_spawned_node_without_the_method_is_named_at_bootstrap():
    class Server:
        def honest_gradient_for_next_batch(self):
            return torch.zeros(1)

    honest = [await HonestNodeActor.spawn(Server, backend="thread")]
    p2p = PeerToPeer(honest, [], Topology.ring(1))
    with pytest.raises(TypeError, match=r"'p2p_half_step'; class 'Server'"):
        await p2p.bootstrap()
    await p2p.shutdown()


async def test_a_spawned_node_can_do_what_the_object_can():
    class Secretive(Quadratic):
        get_param_vector = None

    class Wrapped:
        def __init__(self, goal):
            self.node = Quadratic(goal, gossip.PlainGossip())

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return getattr(self.node, name)

    class Forgetful(Constant):
        p2p_vector_for = None

    honest = [Recipe(Secretive, (GOALS[0], gossip.PlainGossip())), Recipe(Wrapped, (GOALS[1],))]
    liars = [Recipe(Forgetful, (3.0,))]
    reports = []
    for backend in (None, "thread"):
        if backend is None:
            nodes, bad = ([recipe.factory(*recipe.args) for recipe in part] for part in (honest, liars))
        else:
            nodes = await HonestNodeActor.spawn_many(honest, backend=backend)
            bad = await ByzantineNodeActor.spawn_many(liars, backend=backend)
        async with PeerToPeer(nodes, bad, Topology.complete(3)) as p2p:
            await p2p.round()
        reports.append(p2p.history[0])
    assert reports[1].excluded == ()
    assert reports[1].consensus_distance == 0.0  # of one node
    assert reports[1] == replace(reports[0], seconds=reports[1].seconds)


async def test_the_number_of_calls_to_a_host_does_not_grow_with_the_nodes():
    counts = []
    for n in (4, 40):
        honest = [Quadratic(torch.zeros(2), gossip.PlainGossip()) for _ in range(n)]
        p2p = PeerToPeer(honest, [Constant(1.0)], Topology.ring(n + 1))
        local = p2p._runner.peers.roster.local
        calls, original = [], local.call_many
        local.call_many = lambda *args, calls=calls, original=original: calls.append(args) or original(*args)
        async with p2p:
            await p2p.round()
        counts.append(len(calls))
    assert counts == [3, 3]


@pytest.mark.processes
@pytest.mark.parametrize("way", ["sent", "shared", "fetched"])
async def test_kills_in_every_phase_leave_the_bits_alone(tmp_path: Path, monkeypatch, held, way: str):
    if way == "sent":
        let_none_stay(monkeypatch)
    if way == "fetched":
        share_no_memory(monkeypatch)
    topology, flags = Topology.complete(6), str(tmp_path)
    deaths = [{"half-step": 1}, {}, {"aggregate": 2}, {}, {}]

    async def run(honest, liar):
        p2p = PeerToPeer(honest, [liar], topology, lr=0.1, deadline=30.0)
        async with p2p:
            for _ in range(5):
                await p2p.round()
            told = [node.get_param_vector() for node in honest]
            return [t if isinstance(t, torch.Tensor) else await t for t in told], p2p.history

    async with AsyncExitStack() as stack:
        stack.enter_context(
            dask.config.set({"byzflow.cluster.workers": 2, "byzflow.round.snapshot-every": 2})
        )
        backend = "process"
        if way == "fetched":  # of two hosts one would be alone after a kill, and keep no copies
            options = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": False}
            backend = await stack.enter_async_context(LocalCluster(n_workers=3, asynchronous=True, **options))
        honest = await HonestNodeActor.spawn_many(
            [Recipe(MortalPeer, (i, death, flags)) for i, death in enumerate(deaths)], backend=backend
        )
        (liar,) = await ByzantineNodeActor.spawn_many(
            [Recipe(CountingLiar, (9, {"attack": 3}, flags))], backend=backend
        )
        got, history = await run(honest, liar)
    assert held[:3] == [way != "sent"] * 3
    want, _ = await run([MortalPeer(i) for i in range(5)], CountingLiar(9))
    assert [bool(report.respawned) for report in history] == [False, True, True, True, False]
    assert all(report.excluded == () for report in history)
    assert_same(got, want)


def run_of(path: Path):
    store = Checkpoint(path / "run.safetensors", every=2)
    return PeerToPeer(
        [MortalPeer(i) for i in range(4)], [CountingLiar(9)], Topology.complete(5), checkpoint=store
    )


async def test_a_new_process_resumes_bit_for_bit(tmp_path: Path):
    straight, first, second = run_of(tmp_path / "a"), run_of(tmp_path / "b"), run_of(tmp_path / "b")
    for _ in range(7):
        await straight.round()
    for _ in range(5):
        await first.round()
    assert await second.resume() == 4
    for _ in range(3):
        await second.round()
    nodes = [p2p._runner.peers.roster.nodes[:4] for p2p in (straight, second)]
    assert_same(
        [node.get_param_vector() for node in nodes[0]], [node.get_param_vector() for node in nodes[1]]
    )
    assert [report.round for report in second.history] == [4, 5, 6]
    for p2p in (straight, first, second):
        await p2p.shutdown()


async def test_resuming_needs_a_checkpoint_that_fits(tmp_path: Path):
    with pytest.raises(ValueError, match="needs a checkpoint"):
        await PeerToPeer([MortalPeer(0)], [], Topology.ring(1)).resume()
    with pytest.raises(CheckpointError):
        await run_of(tmp_path).resume()


def other_run(path: Path, rule=None, topology=None, mixing=None):
    store = Checkpoint(path / "run.safetensors", every=2)
    nodes = [MortalPeer(i) for i in range(4)]
    if rule is not None:
        nodes[2].p2p_agg = rule
    return PeerToPeer(
        nodes, [CountingLiar(9)], topology or Topology.complete(5), checkpoint=store, mixing=mixing
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"rule": CoordinateWiseMedian()},
            r"rule of honest-2 was \(None, CoordinateWiseTrimmedMean\(f=1\)\)",
        ),
        (
            {"topology": Topology.ring(5)},
            r"topology was Topology\(n=5, edges=20\) .*, this one has .*edges=10",
        ),
        ({"topology": lambda t: Topology.star(5)}, "topology was"),
        ({"mixing": "metropolis"}, "mixing was None, this one has 'metropolis'"),
    ],
    ids=["rule", "topology", "schedule", "mixing"],
)
async def test_a_run_with_other_rules_or_another_topology_is_not_taken_up(
    change: dict[str, Any], says: str, tmp_path: Path
):
    async with run_of(tmp_path) as first:
        for _ in range(2):
            await first.round()
    async with other_run(tmp_path, **change) as second:
        with pytest.raises(CheckpointError, match=f"must be of the same run.*{says}"):
            await second.resume()


async def test_a_run_whose_nodes_were_told_their_mixing_weights_is_taken_up_by_the_same_nodes(tmp_path: Path):
    def run(nodes):
        store = Checkpoint(tmp_path / "run.safetensors", every=1)
        return PeerToPeer(nodes, [], [Topology.ring(4)], checkpoint=store, mixing="metropolis")

    nodes = [MortalPeer(i) for i in range(4)]
    for node in nodes:
        node.p2p_agg = gossip.PlainGossip()
    await run(nodes).round()
    assert nodes[0].p2p_agg.mixing is not None
    assert await run(nodes).resume() == 1


async def test_schedules_that_give_the_same_topologies_are_the_same_run(tmp_path: Path):
    def run(topology):
        return other_run(tmp_path, topology=topology)

    first = run(lambda t: [Topology.ring(5), Topology.complete(5)][t])  # knows no third round
    for _ in range(2):
        await first.round()
    assert await run([Topology.ring(5), Topology.complete(5)]).resume() == 2
    with pytest.raises(CheckpointError, match="topology was"):
        await run([Topology.complete(5), Topology.ring(5)]).resume()
