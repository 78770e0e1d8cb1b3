"""Peer-to-peer runs for `benchmarks.rounds`: the same plain nodes on both systems."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks import peers

HONEST, BYZANTINE = 10, 3
N = HONEST + BYZANTINE


class Honest:
    """Sends one fixed vector and keeps what it mixed by MultiKrum, or with few neighbours by the median."""

    def __init__(self, seed: int, d: int) -> None:
        self.vector = torch.randn(d, generator=torch.Generator().manual_seed(seed))

    def p2p_half_step(self, lr: float) -> torch.Tensor:
        return self.vector

    def p2p_aggregate_and_set(self, self_theta_half: Any, neighbor_vectors: Sequence[Any]) -> None:
        from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
        from byzflow.aggregators.geometric_wise import MultiKrum

        rule = MultiKrum(f=3, q=5) if len(neighbor_vectors) > 5 else CoordinateWiseMedian()
        self.last = rule.aggregate([self_theta_half, *neighbor_vectors])


class Byzantine(Honest):
    """Sends the opposite of the first vector it hears."""

    def p2p_broadcast_vector(self, neighbor_vectors: Any = None, like: Any = None) -> torch.Tensor:
        return -torch.as_tensor(like if not neighbor_vectors else neighbor_vectors[0])


async def byzflow_peers(backend: str, d: int, kind: str) -> Any:
    from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
    from byzflow.engine.peer_to_peer.topology import Topology
    from byzflow.engine.peer_to_peer.train import PeerToPeer

    honest = [Recipe(Honest, (i, d)) for i in range(HONEST)]
    byzantine = [Recipe(Byzantine, (100 + i, d)) for i in range(BYZANTINE)]
    return PeerToPeer(
        await HonestNodeActor.spawn_many(honest, backend=backend),
        await ByzantineNodeActor.spawn_many(byzantine, backend=backend),
        Topology.complete(N) if kind == "complete" else Topology.ring(N),
    )


async def byzpy_nodes(honest: type, byzantine: type, backend: str, d: int) -> tuple[list[Any], list[Any]]:
    """Return the nodes of either side, made by ByzPy."""
    peers.load()
    actors = importlib.import_module("byzpy.engine.node.actors")
    resolve = importlib.import_module("byzpy.engine.actor.factory").resolve_backend
    return [
        await actors.HonestNodeActor.spawn(honest, backend=resolve(backend), args=(i, d))
        for i in range(HONEST)
    ], [
        await actors.ByzantineNodeActor.spawn(byzantine, backend=resolve(backend), args=(100 + i, d))
        for i in range(BYZANTINE)
    ]


async def byzpy_peers(backend: str, d: int, kind: str) -> Any:
    honest, byzantine = await byzpy_nodes(Honest, Byzantine, backend, d)
    topology = importlib.import_module("byzpy.engine.peer_to_peer.topology").Topology
    run = importlib.import_module("byzpy.engine.peer_to_peer.train").PeerToPeer
    made = run(honest, byzantine, topology.complete(N) if kind == "complete" else topology.ring(N, 1))
    await made.bootstrap()
    return made
