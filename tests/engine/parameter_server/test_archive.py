"""Checkpoints of runs in which a node has stopped to answer, or never could give its state."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import LocalCluster

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian, CoordinateWiseTrimmedMean
from byzflow.engine.actor.calls import Outcome
from byzflow.engine.checkpoint import Checkpoint
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.parameter_server.archive import Archive
from byzflow.engine.parameter_server.plan import Cohort
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from byzflow.engine.rounds.answers import Reason
from byzflow.engine.rounds.calls import Roster
from byzflow.exceptions import CheckpointError, DeadlineError, NodeLostError
from byzflow.pre_aggregators import NearestNeighborMixing
from tests.engine.rounds.hostile import ACTS
from tests.engine.sine_node import SineNode

N = 5


class Learner(SineNode):
    """Waits for ever in the rounds from `stuck` on, if that is set."""

    def __init__(self, number: int, stuck: int | None = None) -> None:
        super().__init__(number)
        self.stuck = stuck

    def misbehave(self) -> None:
        if self.stuck is not None and self.steps > self.stuck:
            threading.Event().wait()


class Unpicklable(Learner):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.lock = threading.Lock()


def server(nodes: list[Any], store: Any) -> ParameterServer:
    return ParameterServer(nodes, [], CoordinateWiseTrimmedMean(f=1), deadline=1.0, checkpoint=store)


def peers(nodes: list[Any], store: Any) -> PeerToPeer:
    return PeerToPeer(nodes, [], Topology.complete(N), deadline=1.0, checkpoint=store)


@pytest.mark.parametrize("make", [server, peers])
async def test_a_node_that_hangs_costs_the_run_no_checkpoint(make: Any, tmp_path: Path) -> None:
    store = Checkpoint(tmp_path / "run.safetensors", every=2)
    nodes = [Learner(i, stuck=1 if i == 3 else None) for i in range(N)]
    async with make(nodes, store) as run:
        for _ in range(5):
            await run.round()
    again = [Learner(i) for i in range(N)]
    async with make(again, store) as resumed:
        assert await resumed.resume() == 4
        await resumed.round()
    assert [n.vector.tolist() for n in again if n is not again[3]] == [
        n.vector.tolist() for n in nodes if n is not nodes[3]
    ]
    missing = resumed.history[0].excluded[0]
    assert (missing.node, missing.reason) == ("honest-3", Reason.LOST)
    assert "no state" in missing.detail


@pytest.mark.parametrize("make", [server, peers])
async def test_a_node_that_cannot_give_its_state_is_named(make: Any, tmp_path: Path) -> None:
    store = Checkpoint(tmp_path / "run.safetensors", every=1)
    async with make([*(Learner(i) for i in range(N - 1)), Unpicklable(N)], store) as run:
        with pytest.raises(CheckpointError, match="honest-4 failed"):
            await run.round()


STATES: list[Callable[[], Any]] = [
    *ACTS,
    lambda: reduce(lambda inner, _: [inner], range(500), 1),
    lambda: 1 << 100_000,
    lambda: torch.zeros(2, dtype=torch.complex128),
    lambda: torch.zeros(1).expand(10**12),
    lambda: torch.zeros(2),
]
BAD = len(STATES) - 1


class Liar(SineNode):
    """Gives a state that cannot be used, but for the last, and takes none."""

    saves_itself = True

    def byzantine_gradient_for_next_batch(self, honest_grads: Any) -> Any:
        return -honest_grads[0]

    def p2p_broadcast_vector(self, neighbor_vectors: Any, like: Any) -> Any:
        return -neighbor_vectors[0]

    def state_dict(self) -> Any:
        return {"w": STATES[self.number]()}

    def load_state_dict(self, state: Any) -> None:
        ACTS[3]()


HONEST = [Recipe(SineNode, (number,)) for number in range(2 * len(STATES) + 2)]
LIARS = [Recipe(Liar, (number,)) for number in range(len(STATES))]


async def lied_to(kind: Any, where: Any, store: Checkpoint) -> Any:
    """Return a run on a cluster, or (None) of plain objects."""
    nodes: Any = [[r.factory(*r.args) for r in recipes] for recipes in (HONEST, LIARS)]
    if where is not None:
        nodes = (
            await HonestNodeActor.spawn_many(HONEST, backend=where),
            await ByzantineNodeActor.spawn_many(LIARS, backend=where),
        )
    rule: Any = CoordinateWiseTrimmedMean(f=len(LIARS))
    how = rule if kind is ParameterServer else Topology.complete(len(HONEST) + len(LIARS))
    return kind(*nodes, how, deadline=20.0, checkpoint=store)


@pytest.mark.parametrize("kind", [ParameterServer, PeerToPeer])
@pytest.mark.parametrize("is_far", [False, True])
async def test_a_state_with_code_in_it_is_left_out(kind: Any, is_far: bool, tmp_path: Path) -> None:
    store = Checkpoint(tmp_path / "run.safetensors", every=1)
    options: Any = {"processes": False, "protocol": "tcp", "dashboard_address": ":0", "memory_limit": 0}
    async with LocalCluster(n_workers=2, threads_per_worker=1, asynchronous=True, **options) as cluster:
        where = cluster if is_far else None
        async with await lied_to(kind, where, store) as run:
            await run.round()
        states = store.read()["nodes"]
        assert [name for name in states if states[name] is None] == [f"byzantine-{i}" for i in range(BAD)]
        async with await lied_to(kind, where, store) as again:
            assert await again.resume() == 1
            await again.round()
        assert {item.node for item in again.history[0].excluded} == {f"byzantine-{i}" for i in range(BAD + 1)}
        assert "NeverPicklesError: no" in again.history[0].excluded[-1].detail


@pytest.mark.parametrize(("make", "other"), [(server, peers), (peers, server)])
async def test_a_checkpoint_of_another_kind_of_run_is_foreign(make: Any, other: Any, tmp_path: Path) -> None:
    store = Checkpoint(tmp_path / "run.safetensors", every=1)
    async with make([Learner(i) for i in range(N)], store) as run:
        await run.round()
    async with other([Learner(i) for i in range(N)], store) as resumed:
        with pytest.raises(CheckpointError, match="must be of a"):
            await resumed.resume()


async def test_a_checkpoint_that_does_not_say_its_kind_is_read(tmp_path: Path) -> None:
    store = Checkpoint(tmp_path / "run.safetensors", every=1)
    async with server([Learner(i) for i in range(N)], store) as run:
        await run.round()
    tree = dict(store.read())
    del tree["run"]
    store.write(tree)
    async with server([Learner(i) for i in range(N)], store) as resumed:
        assert await resumed.resume() == 1


class Closing(Learner):
    """Holds what cannot be saved from its second step on."""

    def misbehave(self) -> None:
        if self.steps == 2 and self.stuck is None:
            self.lock = threading.Lock()


def rooms(make: Any, closing: int, store: Any) -> tuple[list[Any], Any]:
    """Return nodes, the last of which cannot be saved from some time on, and their run."""
    nodes: list[Any] = [(Closing if i >= N - closing else Learner)(i) for i in range(N)]
    return nodes, make(nodes, store)


@pytest.mark.parametrize("make", [server, peers])
async def test_a_node_that_cannot_give_its_state_is_named_before_anything_is_done(
    make: Any, tmp_path: Path
) -> None:
    nodes = [*(Learner(i) for i in range(N - 1)), Unpicklable(N)]
    async with make(nodes, Checkpoint(tmp_path / "run.safetensors")) as run:
        for _ in range(2):
            with pytest.raises(CheckpointError, match=r"honest-4 failed \(.*state_dict\(\)"):
                await run.round()
        assert [node.steps for node in nodes] == [0] * N
        del nodes[-1].lock
        await run.round()
    assert [node.steps for node in nodes] == [1] * N


@pytest.mark.parametrize("make", [server, peers])
async def test_a_node_that_cannot_give_its_state_any_more_is_missing_in_checkpoints(
    make: Any, tmp_path: Path
) -> None:
    store = Checkpoint(tmp_path / "run.safetensors", every=1)
    _, run = rooms(make, 1, store)
    async with run:
        for _ in range(3):
            await run.round()
        reports = [[str(item) for item in report.excluded] for report in run.history]
    assert reports[0] == []
    assert [len(items) for items in reports] == [0, 1, 1]
    assert reports[2][0].startswith("honest-4 (checkpoint, raised: TypeError: ")
    assert [name for name, state in store.read()["nodes"].items() if state is None] == ["honest-4"]
    again = [Learner(i) for i in range(N)]
    async with make(again, store) as resumed:
        assert await resumed.resume() == 3
        await resumed.round()
        assert {(item.node, item.reason) for item in resumed.history[0].excluded} == {
            ("honest-4", Reason.LOST)
        }


async def test_a_checkpoint_from_which_no_round_could_go_on_is_refused(tmp_path: Path) -> None:
    store = Checkpoint(tmp_path / "run.safetensors", every=1)
    nodes, run = rooms(server, 2, store)
    async with run:
        await run.round()
        with pytest.raises(CheckpointError, match=r"needs the states of 4 nodes; it got 3\..*honest-3 \("):
            await run.round()
        assert store.read()["round"] == 1
        for node in nodes[-2:]:
            del node.lock
        await run.round()  # what was left of the round
        assert store.read()["round"] == 2
    assert [node.steps for node in nodes] == [2] * N


def seeded(nodes: list[Any], store: Any, seed: int, rule: Any, pre: Any) -> ParameterServer:
    return ParameterServer(nodes, [], rule, pre, seed=seed, checkpoint=store)


@pytest.mark.parametrize("number", [int, np.int64])
async def test_a_run_with_another_seed_or_rule_is_refused(number: Any, tmp_path: Path) -> None:
    store, one = Checkpoint(tmp_path / "run.safetensors", every=1), number(1)
    rule = CoordinateWiseTrimmedMean(f=one)
    async with seeded([Learner(i) for i in range(N)], store, one, rule, NearestNeighborMixing(f=1)) as run:
        await run.round()
    refused = [
        (number(2), rule, NearestNeighborMixing(f=1), "its seed was 1, this one has 2"),
        (
            1,
            CoordinateWiseTrimmedMean(f=number(2)),
            NearestNeighborMixing(f=1),
            r"its aggregator was .*f=1.*f=2",
        ),
        (1, CoordinateWiseMedian(), NearestNeighborMixing(f=1), "this one has CoordinateWiseMedian"),
        (1, rule, None, "its pre_aggregator was .*, this one has None"),
    ]
    for seed, other, pre, text in refused:
        nodes = [Learner(i) for i in range(N)]
        async with seeded(nodes, store, seed, other, pre) as resumed:
            with pytest.raises(CheckpointError, match=text):
                await resumed.resume()
            assert nodes[0].steps == 0
    same = CoordinateWiseTrimmedMean(f=1, chunk_size=7)
    async with seeded([Learner(i) for i in range(N)], store, 1, same, NearestNeighborMixing(f=1)) as resumed:
        assert await resumed.resume() == 1
        resumed.agg = CoordinateWiseMedian()  # from here on another one
        await resumed.round()


async def test_peers_with_another_seed_are_refused(tmp_path: Path) -> None:
    store = Checkpoint(tmp_path / "run.safetensors", every=1)
    for seed in (1, 2):
        nodes = [Learner(i) for i in range(N)]
        async with PeerToPeer(nodes, [], Topology.complete(N), seed=seed, checkpoint=store) as run:
            if seed == 1:
                await run.round()
                continue
            with pytest.raises(CheckpointError, match="its seed was 1, this one has 2"):
                await run.resume()


@pytest.mark.parametrize(
    "change",
    [{"round": "3"}, {"round": -1}, {"round": True}, {"round": None}, {"rule": [1]}, {"about": 5}],
    ids=str,
)
@pytest.mark.parametrize("make", [server, peers])
async def test_a_tree_that_is_no_run_s_is_refused(make: Any, change: dict[str, Any], tmp_path: Path) -> None:
    store = Checkpoint(tmp_path / "run.safetensors", every=1)
    async with make([Learner(i) for i in range(N)], store) as run:
        await run.round()
    store.write({**store.read(), **change})
    async with make([Learner(i) for i in range(N)], store) as resumed:
        with pytest.raises(CheckpointError, match="must say how many rounds are done"):
            await resumed.resume()


@pytest.mark.parametrize("state", [5, "text", {}, [1, 2]], ids=str)
@pytest.mark.parametrize("make", [server, peers])
async def test_a_tree_with_something_else_for_a_state_is_refused(
    make: Any, state: Any, tmp_path: Path
) -> None:
    store = Checkpoint(tmp_path / "run.safetensors", every=1)
    async with make([Learner(i) for i in range(N)], store) as run:
        await run.round()
    tree = store.read()
    store.write({**tree, "nodes": {**tree["nodes"], "honest-1": state}})
    async with make([Learner(i) for i in range(N)], store) as resumed:
        with pytest.raises(CheckpointError, match="of honest-1 it holds"):
            await resumed.resume()


async def test_a_server_that_goes_back_owes_no_update_of_rounds_to_come(tmp_path: Path) -> None:
    store = Checkpoint(tmp_path / "run.safetensors", every=2)
    nodes, plain = [Refusing(i) for i in range(N)], [Learner(i) for i in range(N)]
    async with server(nodes, store) as run, server(plain, None) as undisturbed:
        for _ in range(2):
            await run.round()
        nodes[0].refuses = True
        await run.round()
        nodes[0].refuses = False
        assert await run.resume() == 2
        for _ in range(2):
            await run.round()
        for _ in range(4):
            await undisturbed.round()
    assert [node.vector.tolist() for node in nodes] == [node.vector.tolist() for node in plain]


class Refusing(Learner):
    """Takes no update while it refuses."""

    refuses = False

    def apply_server_gradient(self, gradient: Any) -> None:
        if self.refuses:
            raise OSError("full")
        super().apply_server_gradient(gradient)


def test_a_node_that_is_late_or_lost_has_not_refused_its_state(tmp_path: Path) -> None:
    archive = Archive(Checkpoint(tmp_path / "run"), Roster([]), Cohort(3, 1), "parameter-server")
    errors = [DeadlineError("late"), NodeLostError("gone"), TypeError("a lock"), TypeError("a lie")]
    refusals = archive.refusals({i: Outcome(error=error) for i, error in enumerate(errors)})
    assert [str(refusal) for refusal in refusals.values()] == [
        "honest-2 (checkpoint, raised: TypeError: a lock)"
    ]


@pytest.mark.parametrize("make", [server, peers])
async def test_a_checkpoint_of_a_cancelled_round_replaces_no_later_one(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writing may take longer than the rounds after it."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    write = Checkpoint.write

    def slow(self: Checkpoint, tree: Any) -> None:
        monkeypatch.setattr(Checkpoint, "write", write)
        begun.set()
        go_on.wait(10)
        write(self, tree)
        ended.set()

    monkeypatch.setattr(Checkpoint, "write", slow)
    store = Checkpoint(tmp_path / "run", every=1)
    async with make([Learner(i) for i in range(N)], store) as run:
        cancelled = asyncio.create_task(run.round())
        await asyncio.to_thread(begun.wait)
        for _ in range(2):  # somebody may be impatient
            cancelled.cancel()
            await asyncio.wait([cancelled], timeout=0.05)
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        for _ in range(3):
            await run.round()
        go_on.set()
        await asyncio.to_thread(ended.wait)
        assert cancelled.cancelled()
        assert store.read()["round"] == len(run.history) > 2
