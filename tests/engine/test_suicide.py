"""A node that ends its worker costs the others nothing and is left out; if it was chance, it comes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import LocalCluster, get_worker

from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
from byzflow.engine.checkpoint import Checkpoint
from byzflow.engine.node.actors import HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from byzflow.engine.rounds import returns
from byzflow.engine.rounds.moving import Move
from tests.engine.sine_node import SineNode

N, KILLER, FATAL = 5, 2, 1


OPTIONS: dict[str, Any] = {
    "processes": False,
    "protocol": "tcp",
    "dashboard_address": ":0",
    "memory_limit": 0,
}
WORKERS = 4
CLUSTERS: list[LocalCluster] = []
ENDED: list[str] = []
TRIED: list[int] = []
OVER, GO_ON = threading.Event(), threading.Event()


def end_worker(code: int) -> None:
    """Cut the worker's wire to the scheduler, as its death does, and answer nothing."""
    scheduler, address = CLUSTERS[-1].scheduler, get_worker().address
    ENDED.append(address)
    scheduler.loop.add_callback(lambda: scheduler.stream_comms[address].abort())
    OVER.wait()
    raise ValueError(code)


def end_three(code: int) -> None:
    """End the worker by chance: with others, and twice alone, but not again."""
    if len(ENDED) < 3:
        end_worker(code)


def end_once(code: int) -> None:
    """End the worker by chance, and not again."""
    if not ENDED:
        end_worker(code)


class Learner(SineNode):
    """The killer among them ends its worker in round 1, or from then on, or raises."""

    def __init__(self, number: int, way: Any = None, always: bool = False) -> None:
        super().__init__(number)
        self.way, self.always = way, always

    def misbehave(self) -> None:
        if self.number == KILLER and (self.steps == FATAL + 1 or (self.always and self.steps > FATAL)):
            self.way(1)

    def get_param_vector(self) -> Any:
        return self.vector


class Reluctant(Learner):
    """A killer that cannot be made anew: its constructor raises, or hangs, when it runs again."""

    def __init__(self, number: int, how: str) -> None:
        if number == KILLER and ENDED:
            if how == "hangs":
                OVER.wait()
            raise ReluctantError
        super().__init__(number, end_worker)


class Slow(Learner):
    """A killer that hangs when it is made anew, or is brought back to where it was, until it may go on."""

    def __init__(self, number: int, how: str) -> None:
        super().__init__(number, end_once)
        self.how, self.is_new = how, bool(ENDED)
        if number == KILLER and how == "made" and self.is_new:
            GO_ON.wait()

    def misbehave(self) -> None:
        super().misbehave()
        if self.number == KILLER and self.how == "brought back" and len(ENDED) and not GO_ON.is_set():
            GO_ON.wait()


class Frail(Learner):
    """A killer that ends its worker when its state is asked after the fatal round."""

    saves_itself = True

    def __init__(self, number: int) -> None:
        super().__init__(number)

    def state_dict(self) -> Any:
        if self.number == KILLER and self.steps == FATAL + 1:
            end_once(1)
        return {"steps": self.steps, "vector": self.vector}

    def load_state_dict(self, state: Any) -> None:
        vars(self).update(state)


class Fickle(Learner):
    """A killer whose constructor fails some times when it is to be made anew."""

    def __init__(self, number: int, failures: int) -> None:
        if number == KILLER and ENDED:
            TRIED.append(number)
            if len(TRIED) <= failures:
                raise OSError("no such file system")
        super().__init__(number, end_once)


class Absent(Learner):
    """The killer among them raises from the fatal round until it is back."""

    def __init__(self, number: int, back: int) -> None:
        super().__init__(number)
        self.back = back

    def misbehave(self) -> None:
        if self.number == KILLER and FATAL < self.steps <= self.back:
            fail(1)


class ReluctantError(Exception):
    """Runs code where it is unpickled."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("unpickled",)


def fail(code: int) -> None:
    raise ValueError(code)


def server(nodes: list[Any], deadline: float = 30.0, **options: Any) -> ParameterServer:
    return ParameterServer(nodes, [], CoordinateWiseTrimmedMean(f=1), deadline=deadline, **options)


def peers(nodes: list[Any], deadline: float = 30.0, **options: Any) -> PeerToPeer:
    return PeerToPeer(nodes, [], Topology.complete(N), deadline=deadline, **options)


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster]:
    async with LocalCluster(n_workers=WORKERS, threads_per_worker=1, asynchronous=True, **OPTIONS) as cluster:
        CLUSTERS.append(cluster)
        ENDED.clear()
        TRIED.clear()
        OVER.clear()
        GO_ON.clear()
        yield cluster
    OVER.set()
    GO_ON.set()


async def trained(make: Any, nodes: list[Any], rounds: int, after: Any = None) -> tuple[Any, list[Any]]:
    async with make(nodes) as run:
        for _ in range(rounds):
            await run.round()
            if after is not None:
                await after()
        told = [node.vector if isinstance(node, Learner) else await node.get_param_vector() for node in nodes]
    return run, [vector.tolist() for vector in told]


def replaced(cluster: LocalCluster) -> Any:
    """Return what starts a worker for each that has ended."""

    async def replace() -> None:
        cluster.scale(WORKERS + len(ENDED))
        await cluster

    return replace


@pytest.mark.parametrize("make", [server, peers])
async def test_the_node_that_ends_workers_is_the_one_left_out(make: Any, cluster: LocalCluster) -> None:
    nodes = await HonestNodeActor.spawn_many(
        [Recipe(Learner, (i, end_worker)) for i in range(N)], backend=cluster
    )
    async with make(nodes) as run:
        for _ in range(FATAL + 2):
            await run.round()
        got = [await nodes[i].get_param_vector() for i in range(N) if i != KILLER]
    assert len(cluster.scheduler.workers) == 1  # it was called with others once, and alone twice
    plain = [Learner(i, fail) for i in range(N)]
    async with make(plain) as reference:
        for _ in range(FATAL + 1):
            await reference.round()
        plain[KILLER].way, plain[KILLER].steps = fail, FATAL  # not called any more where workers are missing
        await reference.round()
    assert [v.tolist() for v in got] == [n.vector.tolist() for n in plain if n.number != KILLER]
    assert run.history[FATAL].excluded[0].node == f"honest-{KILLER}"
    assert {exclusion.node for report in run.history for exclusion in report.excluded} == {f"honest-{KILLER}"}
    assert "took down its worker" in run.history[FATAL].excluded[0].detail


@pytest.mark.parametrize("make", [server, peers])
async def test_a_node_whose_workers_went_by_chance_misses_one_round(make: Any, cluster: LocalCluster) -> None:
    nodes = await HonestNodeActor.spawn_many(
        [Recipe(Learner, (i, end_three)) for i in range(N)], backend=cluster
    )
    run, got = await trained(make, nodes, FATAL + 3, replaced(cluster))
    _, want = await trained(make, [Learner(i, fail) for i in range(N)], FATAL + 3)
    assert [{e.node for e in report.excluded} for report in run.history] == [
        {f"honest-{KILLER}"} if number == FATAL else set() for number in range(FATAL + 3)
    ]
    assert got == want


@pytest.mark.parametrize("make", [server, peers])
async def test_a_node_that_always_ends_its_worker_costs_ever_fewer(make: Any, cluster: LocalCluster) -> None:
    nodes = await HonestNodeActor.spawn_many(
        [Recipe(Learner, (i, end_worker, True)) for i in range(N)], backend=cluster
    )
    lost = []

    async def note() -> None:
        lost.append(len(ENDED))
        await replaced(cluster)()

    async with make(nodes) as run:
        for _ in range(FATAL + 12):
            await run.round()
            await note()
    costs = [after - before for before, after in zip([0, *lost], lost, strict=False)]
    assert costs == [0, 3, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]
    assert all(
        [e.node for e in report.excluded][:1] == [f"honest-{KILLER}"] for report in run.history[FATAL:]
    )


@pytest.mark.parametrize("make", [server, peers])
async def test_a_node_whose_constructor_fails_for_a_while_is_tried_ever_more_rarely(
    make: Any, cluster: LocalCluster
) -> None:
    failures, back = 3, FATAL + 7  # tried in the round of the loss, and 1, 3 and 7 rounds later
    nodes = await HonestNodeActor.spawn_many(
        [Recipe(Fickle, (i, failures)) for i in range(N)], backend=cluster
    )
    run, got = await trained(make, nodes, back + 2)
    _, want = await trained(make, [Absent(i, back) for i in range(N)], back + 2)
    assert len(TRIED) == failures + 1
    for number, report in enumerate(run.history):
        out = {
            (e.node, str(e.reason)) for e in report.excluded if e.detail.startswith("OSError: when it was")
        }
        assert out == ({(f"honest-{KILLER}", "raised")} if FATAL <= number < back else set())
        assert report.respawned == ((f"honest-{KILLER}",) if number == back else ())
    assert got == want


@pytest.mark.parametrize("make", [server, peers])
@pytest.mark.parametrize(("how", "reason"), [("raises", "raised"), ("hangs", "deadline")])
async def test_a_node_that_cannot_be_made_anew_is_left_out(
    make: Any, how: str, reason: str, cluster: LocalCluster
) -> None:
    nodes = await HonestNodeActor.spawn_many([Recipe(Reluctant, (i, how)) for i in range(N)], backend=cluster)
    with dask.config.set({"byzflow.host.start-deadline": 2.0}):
        async with make(nodes) as run:
            for _ in range(FATAL + 2):
                await run.round()
            OVER.set()
    assert len(ENDED) == 1
    for report in run.history[FATAL:]:
        assert {(e.node, str(e.reason)) for e in report.excluded} == {(f"honest-{KILLER}", reason)}


@pytest.mark.parametrize("make", [server, peers])
@pytest.mark.parametrize("how", ["made", "brought back"])
async def test_a_node_that_hangs_on_its_way_back_holds_nobody_up_and_comes_back_when_it_can(
    monkeypatch: pytest.MonkeyPatch, make: Any, how: str, cluster: LocalCluster
) -> None:
    limit, back, waits, wait = 1.0, FATAL + 4, list[Any](), Move.wait

    async def noted(move: Move, limit: float | None) -> None:
        waits.append(limit)
        await wait(move, limit)

    monkeypatch.setattr(returns, "TURN", limit)
    monkeypatch.setattr(Move, "wait", noted)
    nodes = await HonestNodeActor.spawn_many([Recipe(Slow, (i, how)) for i in range(N)], backend=cluster)
    with dask.config.set({"byzflow.host.start-deadline": limit}):
        async with make(nodes, deadline=limit) as run:
            for _ in range(back):
                await run.round()
            GO_ON.set()
            async with asyncio.timeout(30):
                while run.history[-1].excluded:
                    await run.round()
            got = [(await node.get_param_vector()).tolist() for node in nodes]
    last = len(run.history)
    _, want = await trained(make, [Absent(i, last - 1) for i in range(N)], last)
    assert got == want
    late = [{(e.node, str(e.reason)) for e in report.excluded} for report in run.history]
    assert late[:FATAL] == [set()] * FATAL
    assert late[FATAL:-1] == [{(f"honest-{KILLER}", "deadline")}] * (last - FATAL - 1)
    assert len(waits) == len(ENDED) == 1


@pytest.mark.parametrize("make", [server, peers])
async def test_a_worker_that_ends_while_a_checkpoint_is_made_is_missing_in_none(
    tmp_path: Path, make: Any, cluster: LocalCluster
) -> None:
    nodes = await HonestNodeActor.spawn_many([Recipe(Frail, (i,)) for i in range(N)], backend=cluster)
    store, plain = Checkpoint(tmp_path / "run.safetensors", every=FATAL + 1), [Learner(i) for i in range(N)]
    async with make(nodes, checkpoint=store) as run, make(plain) as undisturbed:
        for _ in range(FATAL + 1):
            await run.round()
            await undisturbed.round()
    states = store.read()["nodes"].values()
    assert [state[1]["vector"].tolist() for state in states] == [node.vector.tolist() for node in plain]
    assert f"honest-{KILLER}" in run.history[FATAL].respawned
