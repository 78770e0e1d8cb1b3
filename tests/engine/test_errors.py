"""Nodes that raise once: left out of that round wherever they live, and whatever is asked again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from distributed import LocalCluster

from byzflow.aggregators.average import Average
from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from byzflow.exceptions import ToleranceError
from tests.engine.sine_node import SineNode

N, ROUNDS = 4, 3


class Stumbling(SineNode):
    """Raises in the round of its number; its vector depends on how often it was called."""

    def misbehave(self) -> None:
        if self.steps == self.number + 1:
            raise ValueError("stumbled")
        self.vector = self.vector + 0.01 * self.steps

    def get_param_vector(self) -> Any:
        return self.vector


def server(nodes: list[Any]) -> ParameterServer:
    return ParameterServer(nodes, [], CoordinateWiseMedian(), deadline=30.0)


def peers(nodes: list[Any]) -> PeerToPeer:
    return PeerToPeer(nodes, [], Topology.complete(N), deadline=30.0)


class StumblingLiar:
    """Raises every other time it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def byzantine_gradient_for_next_batch(self, honest_grads: Any) -> torch.Tensor:
        self.asked += 1
        if self.asked % 2:
            raise ValueError("stumbled")
        return torch.full((3,), 0.1 * self.asked)

    def p2p_broadcast_vector(self, neighbor_vectors: Any = None, like: Any = None) -> torch.Tensor:
        return self.byzantine_gradient_for_next_batch(neighbor_vectors)


async def expected(make: Any) -> list[torch.Tensor]:
    nodes = [Stumbling(i) for i in range(N)]
    async with make(nodes) as run:
        for _ in range(ROUNDS):
            await run.round()
    return [node.vector for node in nodes]


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize("make", [server, peers])
async def test_a_node_that_stumbles_steps_once_a_round(make: Any, lossy: bool) -> None:
    options: dict[str, Any] = {"processes": False, "protocol": "tcp", "dashboard_address": ":0"}
    async with LocalCluster(n_workers=2, threads_per_worker=1, asynchronous=True, **options) as cluster:
        nodes = await HonestNodeActor.spawn_many([Recipe(Stumbling, (i,)) for i in range(N)], backend=cluster)
        async with make(nodes) as run:
            for number in range(ROUNDS):
                if lossy and number == ROUNDS - 1:
                    cluster.scale(1)
                    await cluster
                await run.round()
            got = [await node.get_param_vector() for node in nodes]
    assert [[e.node for e in report.excluded] for report in run.history] == [
        [f"honest-{number}"] for number in range(ROUNDS)
    ]
    assert any(report.respawned for report in run.history) == lossy
    assert all(map(torch.equal, got, await expected(make)))


class Refusing(SineNode):
    """Refuses its second update the first time, if it is node 1."""

    offered = 0

    def apply_server_gradient(self, gradient: Any) -> None:
        self.offered += 1
        if self.number == 1 and self.offered == 2:
            raise OSError("busy")
        super().apply_server_gradient(gradient)

    def get_param_vector(self) -> Any:
        return self.vector


async def test_a_node_that_refused_an_update_comes_back_with_it() -> None:
    options: dict[str, Any] = {"processes": False, "protocol": "tcp", "dashboard_address": ":0"}
    plain = [Refusing(i) for i in range(N)]
    async with server(plain) as undisturbed:
        for _ in range(4):
            await undisturbed.round()
    async with LocalCluster(n_workers=2, threads_per_worker=1, asynchronous=True, **options) as cluster:
        nodes = await HonestNodeActor.spawn_many([Recipe(Refusing, (i,)) for i in range(N)], backend=cluster)
        async with server(nodes) as run:
            for number in range(4):
                if number == 3:
                    await cluster.scheduler.remove_worker(nodes[1]._place()[0].address, stimulus_id="test")
                await run.round()
            got = [await node.get_param_vector() for node in nodes]
    assert "honest-1" in run.history[3].respawned
    assert [report.excluded for report in run.history] == [report.excluded for report in undisturbed.history]
    assert all(torch.equal(vector, node.vector) for vector, node in zip(got, plain, strict=True))


@pytest.mark.parametrize("kind", [ParameterServer, PeerToPeer])
async def test_a_liar_that_stumbled_comes_back_as_it_was_after_that(kind: Any) -> None:
    options: dict[str, Any] = {"processes": False, "protocol": "tcp", "dashboard_address": ":0"}
    how = Average() if kind is ParameterServer else Topology.complete(N + 1)
    async with LocalCluster(n_workers=2, threads_per_worker=1, asynchronous=True, **options) as cluster:
        liar = await ByzantineNodeActor.spawn(StumblingLiar, backend=cluster)
        async with kind([SineNode(i + N) for i in range(N)], [liar], how, quorum=N) as run:
            await run.round()
            address = liar._place()[0].address
            await cluster.scheduler.remove_worker(address, stimulus_id="test")
            await run.round()
            await run.round()
    out = [[exclusion.node for exclusion in report.excluded] for report in run.history]
    assert [report.respawned for report in run.history] == [(), ("byzantine-0",), ()]
    assert out == [["byzantine-0"], [], ["byzantine-0"]]


class Diverged(SineNode):
    """Computes with what has grown too large."""

    def misbehave(self) -> None:
        self.vector = self.vector * torch.inf


@pytest.mark.parametrize("make", [server, peers])
def test_a_round_in_which_all_values_are_infinite_says_that_the_models_diverged(make: Any) -> None:
    with pytest.raises(ToleranceError, match="models have diverged: lower the step length"):
        make([Diverged(number) for number in range(N)]).round_sync()
    with pytest.raises(ToleranceError, match="Repair these nodes"):
        make([Diverged(0), *[Broken(number) for number in range(1, N)]]).round_sync()


class Broken(SineNode):
    """Raises in each round."""

    def misbehave(self) -> None:
        raise ValueError("broken")
