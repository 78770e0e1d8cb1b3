"""Hosts that are slow or frozen, while the vectors of a round lie with them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

import dask
import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.node.actors import HonestNodeActor, Recipe
from byzflow.engine.parameter_server.ps import ParameterServer
from byzflow.engine.rounds import sites
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen


class Pointed:
    """Always has the same gradient, and knows its process."""

    def __init__(self, value: float) -> None:
        self.vector = torch.full((50,), value)

    def honest_gradient_for_next_batch(self) -> torch.Tensor:
        return self.vector

    def apply_server_gradient(self, gradient: torch.Tensor) -> None:
        pass

    def pid(self) -> int:
        return os.getpid()


@frozen
class Compiled(CoordinateWiseMedian):
    """Takes its time when it is first used in a process, as a rule that is compiled does."""

    def columns(self, X: Array) -> Array:
        if Compiled not in ready:
            time.sleep(2.0)  # seconds; longer than the nodes have
            ready.append(Compiled)
        return super().columns(X)


ready: list[Any] = []


@pytest.mark.processes
async def test_a_slow_rule_is_waited_for_and_a_frozen_worker_is_not(monkeypatch) -> None:
    monkeypatch.setattr(sites, "LARGE", 1)
    monkeypatch.setattr(sites, "TIMES", 1)
    with dask.config.set({"byzflow.cluster.workers": 2, "byzflow.host.grace": "200ms"}):
        nodes = await HonestNodeActor.spawn_many(
            [Recipe(Pointed, (float(value),)) for value in range(4)], backend="process"
        )
    pids = [await node.pid() for node in nodes]
    frozen_one = pids[0]
    async with ParameterServer(nodes, [], Compiled(), deadline=1.5, quorum=2) as server:
        for _ in range(2):
            await server.round()
        assert [report.excluded for report in server.history] == [(), ()]
        assert server._rounds._decision._sharding._form is not None
        os.kill(frozen_one, signal.SIGSTOP)
        try:
            begin = time.perf_counter()
            aggregate = await server.round()
            spent = time.perf_counter() - begin
        finally:
            os.kill(frozen_one, signal.SIGCONT)
    late = {item.node for item in server.history[-1].excluded}
    assert late == {f"honest-{i}" for i, pid in enumerate(pids) if pid == frozen_one}
    kept = [float(i) for i, pid in enumerate(pids) if pid != frozen_one]
    torch.testing.assert_close(aggregate, torch.full((50,), min(kept)))
    assert spent < 30.0  # half of what a worker has to start, as which a rule that is compiled is waited for


opened = threading.Event()


class Tardy:
    """Its second update takes until `opened` is set."""

    def __init__(self, is_late: bool) -> None:
        self.is_late, self.got = is_late, list[float]()

    async def honest_gradient_for_next_batch(self) -> torch.Tensor:
        return torch.full((3,), float(len(self.got)))

    async def apply_server_gradient(self, gradient: torch.Tensor) -> None:
        if self.is_late and len(self.got) == 1:
            await asyncio.to_thread(opened.wait)
        self.got.append(float(gradient[0]))

    async def seen(self) -> list[float]:
        return self.got


async def test_an_update_that_is_late_is_made_once() -> None:
    nodes = await HonestNodeActor.spawn_many([Recipe(Tardy, (i == 1,)) for i in range(4)], backend="thread")
    async with ParameterServer(nodes, [], CoordinateWiseMedian(), deadline=1.0, quorum=2) as server:
        excluded = []
        for round in range(8):
            if round == 4:
                opened.set()
            await server.round()
            excluded.append(len(server.history[-1].excluded) > 0)
        assert excluded[:4] == [False, True, True, True]
        async with asyncio.timeout(30):
            while excluded[-1]:  # it is waited for only as long as the others take
                await server.round()
                excluded.append(len(server.history[-1].excluded) > 0)
        want = [float(round) for round in range(len(excluded))]
        assert [await node.seen() for node in nodes] == [want] * 4


@pytest.mark.parametrize("backend", ["thread", pytest.param("process", marks=pytest.mark.processes)])
async def test_servers_that_take_turns_with_the_same_nodes_have_rounds_of_their_own(backend: str) -> None:
    nodes = await HonestNodeActor.spawn_many([Recipe(Stepping) for _ in range(3)], backend=backend)
    servers = [ParameterServer(nodes, [], CoordinateWiseMedian()) for _ in range(2)]
    for server in (*servers, servers[1], servers[0], servers[0]):
        await server.round()
    assert [await node.steps() for node in nodes] == [5, 5, 5]
    await servers[0].shutdown()


class Stepping:
    """Counts its updates, which are its gradients and one more."""

    def __init__(self) -> None:
        self.count = 0

    def honest_gradient_for_next_batch(self) -> torch.Tensor:
        return torch.full((3,), float(self.count))

    def apply_server_gradient(self, gradient: torch.Tensor) -> None:
        assert gradient[0] == self.count
        self.count += 1

    def steps(self) -> int:
        return self.count
