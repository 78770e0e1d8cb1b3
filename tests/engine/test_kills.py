"""Workers killed at random moments of a hundred rounds change no bit of the result."""

from __future__ import annotations

from typing import Any

import dask
import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from byzflow.engine.rounds import rota, sites
from tests.engine.killer import Killer
from tests.engine.parameter_server.mortal import MortalHonest, MortalLiar
from tests.engine.peer_to_peer.mortal import CountingLiar, MortalPeer

ROUNDS, HONEST, KILLS = 100, 4, 6


def server(honest: list[Any], liars: list[Any]) -> ParameterServer:
    return ParameterServer(honest, liars, CoordinateWiseTrimmedMean(f=1), None, True, deadline=30.0)


def peers(honest: list[Any], liars: list[Any]) -> PeerToPeer:
    return PeerToPeer(honest, liars, Topology.complete(HONEST + 1), lr=0.1, deadline=30.0)


async def trained(run: Any, honest: list[Any], killer: Killer | None = None) -> list[torch.Tensor]:
    async with run:
        for number in range(ROUNDS):
            if killer is not None:
                killer.before(number)
                if number == ROUNDS - 1:  # which finds all that was killed
                    killer.finish()
            await run.round()
        told = [node.get_param_vector() for node in honest]
        return [t if isinstance(t, torch.Tensor) else await t for t in told]


@pytest.mark.processes
@pytest.mark.parametrize("seed", [5])
@pytest.mark.parametrize(
    ("make", "node", "liar", "large"),
    [
        (server, MortalHonest, MortalLiar, 10**9),
        (server, MortalHonest, MortalLiar, 1),
        (peers, MortalPeer, CountingLiar, 10**9),
        (peers, MortalPeer, CountingLiar, 1),
    ],
    ids=["server", "server-shared", "peers", "peers-shared"],
)
async def test_kills_at_random_moments_leave_the_bits_alone(
    monkeypatch: pytest.MonkeyPatch, make: Any, node: Any, liar: Any, large: int, seed: int
) -> None:
    monkeypatch.setattr(sites, "LARGE", large)
    monkeypatch.setattr(sites, "TIMES", 1)
    monkeypatch.setattr(rota, "HEAVY", large)
    settings = {
        "byzflow.cluster.workers": 2,
        "byzflow.round.snapshot-every": 7,
        "byzflow.comm.connect-timeout": "120s",  # both workers may be gone, and the machine busy
    }
    with dask.config.set(settings):
        honest = await HonestNodeActor.spawn_many(
            [Recipe(node, (i,)) for i in range(HONEST)], backend="process"
        )
        liars = await ByzantineNodeActor.spawn_many([Recipe(liar, (9,))], backend="process")
        run = make(honest, liars)
        cluster = honest[0]._place()[0].runtime.client.cluster
        killer = Killer(cluster, seed, ROUNDS, KILLS)
        got = await trained(run, honest, killer)
    plain = [node(i) for i in range(HONEST)]
    want = await trained(make(plain, [liar(9)]), plain)
    assert len(set(killer.killed)) >= 2
    assert any(report.respawned for report in run.history)
    assert all(report.excluded == () for report in run.history)
    assert all(map(torch.equal, got, want))
