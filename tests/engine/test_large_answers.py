"""A node that answers with far more than the others costs nobody but itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from distributed import LocalCluster

from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from byzflow.engine.peer_to_peer.peers import Peers
from byzflow.engine.rounds import forms
from byzflow.engine.rounds.answers import Reason
from byzflow.engine.rounds.calls import Roster
from tests.engine.sine_node import SineNode

N, MUCH = 5, 10**5


class Giant(SineNode):
    """Answers whatever it is asked with far more entries than the others have."""

    def honest_gradient_for_next_batch(self) -> Any:
        return torch.ones(MUCH)

    def apply_server_gradient(self, gradient: Any) -> Any:
        return torch.ones(MUCH)

    def p2p_half_step(self, lr: float) -> Any:
        return torch.ones(MUCH)

    def p2p_broadcast_vector(self, neighbor_vectors: Any, like: Any) -> Any:
        return torch.ones(MUCH)

    def byzantine_gradient_for_next_batch(self, honest_grads: Any) -> Any:
        return torch.ones(MUCH)

    def get_param_vector(self) -> Any:
        return torch.ones(MUCH)


class Grows(SineNode):
    """Has far more entries from its second step on."""

    def honest_gradient_for_next_batch(self) -> Any:
        return torch.ones(3 if self.steps == 0 else MUCH)

    def apply_server_gradient(self, gradient: Any) -> None:
        self.steps += 1

    def p2p_half_step(self, lr: float) -> Any:
        return self.honest_gradient_for_next_batch()

    def p2p_aggregate_and_set(self, own: Any, neighbors: Any) -> None:
        self.vector = torch.stack([own, *neighbors]).mean(dim=0)
        self.steps += 1

    def get_param_vector(self) -> Any:
        return self.vector


def server(nodes: list[Any], liars: list[Any]) -> ParameterServer:
    return ParameterServer(nodes, liars, CoordinateWiseTrimmedMean(f=2), None, True, deadline=30.0)


def peers(nodes: list[Any], liars: list[Any]) -> PeerToPeer:
    return PeerToPeer(nodes, liars, Topology.complete(len(nodes) + len(liars)), deadline=30.0)


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(forms, "LARGE", 1000)
    options: Any = {"processes": False, "protocol": "tcp", "dashboard_address": ":0", "memory_limit": 0}
    async with LocalCluster(n_workers=2, threads_per_worker=1, asynchronous=True, **options) as cluster:
        yield cluster


@pytest.fixture
def came(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes [bytes] of all vectors that come to the coordinator."""
    sizes: list[int] = []
    ask, call = Roster.ask, Peers.call

    async def asked(self: Any, *args: Any) -> Any:
        outcomes = await ask(self, *args)
        sizes.extend(getattr(outcome.value, "nbytes", 0) for outcome in outcomes.values())
        return outcomes

    async def called(self: Any, *args: Any) -> Any:
        outcomes = await call(self, *args)
        sizes.extend(getattr(o.value, "nbytes", 0) for queue in outcomes.values() for o in queue)
        return outcomes

    monkeypatch.setattr(Roster, "ask", asked)
    monkeypatch.setattr(Peers, "call", called)
    return sizes


@pytest.mark.parametrize("make", [server, peers])
async def test_a_vector_far_larger_than_those_of_others_is_not_fetched(
    make: Any, cluster: LocalCluster, came: list[int]
) -> None:
    recipes = [Recipe(Giant if i == 3 else SineNode, (i,)) for i in range(N + 1)]
    nodes = await HonestNodeActor.spawn_many(recipes, backend=cluster)
    liars = await ByzantineNodeActor.spawn_many([Recipe(Giant, (9,))], backend=cluster)
    async with make(nodes, liars) as run:
        for _ in range(2):
            await run.round()
        for report in run.history:
            reasons = {(item.node, item.reason) for item in report.excluded}
            assert reasons == {("honest-3", Reason.SHAPE), ("byzantine-0", Reason.SHAPE)}
    assert 0 < max(came) < 1000


@pytest.mark.parametrize("make", [server, peers])
async def test_models_may_grow_from_round_to_round(make: Any, cluster: LocalCluster) -> None:
    nodes = await HonestNodeActor.spawn_many([Recipe(Grows, (i,)) for i in range(N)], backend=cluster)
    async with make(nodes, []) as run:
        for _ in range(3):
            await run.round()
        assert [report.excluded for report in run.history] == [()] * 3
        if make is peers:
            assert [len(await node.get_param_vector()) for node in nodes] == [MUCH] * N
