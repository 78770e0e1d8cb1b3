"""Nodes that give no state come back from how they were made, with the bits of a run that lost nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.clusters import EMBEDDED, process_cluster
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from tests.engine.parameter_server.mortal import MortalHonest, MortalLiar
from tests.engine.peer_to_peer.mortal import CountingLiar, MortalPeer

HONEST, ROUNDS = 4, 7


class Streaming:
    """Holds a generator, which nobody can pickle."""

    saves_itself = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.noise = (0.01 * i for i in range(1000))


class Honest(Streaming, MortalHonest):
    def honest_gradient_for_next_batch(self) -> torch.Tensor:
        return super().honest_gradient_for_next_batch() + next(self.noise)


class Liar(Streaming, MortalLiar):
    def byzantine_gradient_for_next_batch(self, honest_grads: Any = None) -> Any:
        return super().byzantine_gradient_for_next_batch(honest_grads) + next(self.noise)


class Peer(Streaming, MortalPeer):
    def p2p_half_step(self, lr: float) -> torch.Tensor:
        return super().p2p_half_step(lr) + next(self.noise)


class LyingPeer(Streaming, CountingLiar):
    def p2p_vector_for(self, receiver: int, neighbor_vectors: Any = None, like: Any = None) -> Any:
        return super().p2p_vector_for(receiver, neighbor_vectors, like) + next(self.noise)


def server(honest: list[Any], liars: list[Any]) -> ParameterServer:
    return ParameterServer(honest, liars, CoordinateWiseTrimmedMean(f=1), None, True, deadline=30.0)


def peers(honest: list[Any], liars: list[Any]) -> PeerToPeer:
    return PeerToPeer(honest, liars, Topology.complete(HONEST + 1), lr=0.1, deadline=30.0)


async def trained(run: Any, honest: list[Any]) -> list[torch.Tensor]:
    async with run:
        for _ in range(ROUNDS):
            await run.round()
        told = [node.get_param_vector() for node in honest]
        return [t if isinstance(t, torch.Tensor) else await t for t in told]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("make", "node", "liar", "phase"),
    [(server, Honest, Liar, "apply"), (peers, Peer, LyingPeer, "aggregate")],
    ids=["server", "peers"],
)
async def test_nodes_without_a_state_do_all_rounds_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, node: Any, liar: Any, phase: str
) -> None:
    monkeypatch.setitem(EMBEDDED, "spare", process_cluster)  # one worker, whatever other tests have left
    plain = [node(i) for i in range(HONEST)]
    want = await trained(make(plain, [liar(9)]), plain)
    settings = {
        "byzflow.cluster.workers": 1,
        "byzflow.round.snapshot-every": 2,
        "byzflow.comm.connect-timeout": "120s",  # the worker is gone, and the machine may be busy
    }
    deaths = {phase: ROUNDS - 2}
    with dask.config.set(settings):
        recipes = [Recipe(node, (i, {} if i else deaths, str(tmp_path))) for i in range(HONEST)]
        honest = await HonestNodeActor.spawn_many(recipes, backend=DaskActorBackend("spare"))
        liars = await ByzantineNodeActor.spawn_many([Recipe(liar, (9,))], backend=DaskActorBackend("spare"))
        run = make(honest, liars)
        got = await trained(run, honest)
    assert [len(report.respawned) for report in run.history] == [0] * (ROUNDS - 2) + [HONEST + 1, 0]
    assert all(report.excluded == () for report in run.history)
    assert all(map(torch.equal, got, want))
