"""Lines cut at random moments of a hundred rounds change no bit, and no node does anything twice."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import dask
import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.actor.line import Caller
from byzflow.engine.node.actors import HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from byzflow.engine.rounds import sites
from tests.engine.sine_node import SineNode

ROUNDS, N = 100, 4
CUTS = 0.2  # of the calls


class Counting(SineNode):
    """Counts its updates too."""

    updates = 0

    def apply_server_gradient(self, gradient: Any) -> None:
        self.updates += 1
        super().apply_server_gradient(gradient)

    def p2p_aggregate_and_set(self, own: Any, neighbors: Any) -> None:
        self.updates += 1
        super().p2p_aggregate_and_set(own, neighbors)

    def tally(self) -> tuple[int, int, torch.Tensor]:
        return self.steps, self.updates, self.vector


class AsyncCounting(Counting):
    """Waits in the middle of a step."""

    async def honest_gradient_for_next_batch(self) -> Any:
        await asyncio.sleep(0.0005)
        return super().honest_gradient_for_next_batch()

    async def p2p_half_step(self, lr: float) -> Any:
        return await self.honest_gradient_for_next_batch()


def server(nodes: list[Any]) -> ParameterServer:
    return ParameterServer(nodes, [], CoordinateWiseMedian(), deadline=30.0)


def peers(nodes: list[Any]) -> PeerToPeer:
    return PeerToPeer(nodes, [], Topology.complete(N), deadline=30.0)


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cut lines in the midst of some of their calls, until it is enough; note those that were under way."""
    seen: list[str] = []
    stream, call, takes = random.Random(7), Caller.call, 0.001  # seconds

    async def cut_off(self: Caller, method: str, *args: Any) -> Any:
        nonlocal takes
        if "enough" not in seen and stream.random() < CUTS:
            self._loop.call_later(stream.uniform(0, takes), self._transport.abort)
        begin = time.perf_counter()
        try:
            answer = await call(self, method, *args)
        except ConnectionError:
            seen.append(method)
            raise
        takes = time.perf_counter() - begin
        return answer

    monkeypatch.setattr(Caller, "call", cut_off)
    return seen


@pytest.mark.processes
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("make", "kind", "large"),
    [(server, Counting, 10**9), (server, Counting, 1), (peers, Counting, 10**9), (peers, AsyncCounting, 1)],
    ids=["server", "server-shared", "peers", "async-peers-shared"],
)
async def test_cut_lines_leave_the_bits_alone_and_every_node_acts_once(
    monkeypatch: pytest.MonkeyPatch, cut: list[str], make: Any, kind: Any, large: int
) -> None:
    monkeypatch.setattr(sites, "LARGE", large)
    monkeypatch.setattr(sites, "TIMES", 1)
    with dask.config.set({"byzflow.cluster.workers": 2}):
        nodes = await HonestNodeActor.spawn_many([Recipe(kind, (i,)) for i in range(N)], backend="process")
    plain = [Counting(i) for i in range(N)]
    async with make(nodes) as run, make(plain) as undisturbed:
        for _ in range(ROUNDS):
            await run.round()
            await undisturbed.round()
        cut.append("enough")
        told = [await node.tally() for node in nodes]
    assert len(cut) > 10
    assert all(report.excluded == report.respawned == () for report in run.history)
    for (steps, updates, vector), node in zip(told, plain, strict=True):
        assert (steps, updates) == (ROUNDS, ROUNDS)
        assert torch.equal(vector, node.vector)
