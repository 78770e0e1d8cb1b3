"""Checkpoints of runs in which a node has stopped to answer, or never could give its state."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed import LocalCluster

from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
from byzflow.engine.checkpoint import Checkpoint
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.node.answers import Reason
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from byzflow.exceptions import CheckpointError
from tests.engine.node.hostile import ACTS
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
    return ParameterServer(nodes, [], CoordinateWiseTrimmedMean(f=1), deadline=0.3, checkpoint=store)


def peers(nodes: list[Any], store: Any) -> PeerToPeer:
    return PeerToPeer(nodes, [], Topology.complete(N), deadline=0.3, checkpoint=store)


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
