"""Runs whose vectors stay with their hosts, and what to compare them with."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import torch
from distributed import LocalCluster

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.peer_to_peer.gossip import NearestNeighborAveraging, PlainGossip
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from byzflow.engine.rounds import board
from tests.engine.peer_to_peer.nodes import (
    Constant,
    Coroutines,
    Quadratic,
    TwoFaced,
    Vandal,
)

HONEST, D = 5, 20_000  # columns: three blocks of the consensus distance
GOALS = [torch.from_numpy(row) for row in np.random.default_rng(3).normal(size=(HONEST, D))]
SHORT = slice(0, D - 1)


TOPOLOGIES = {"complete": Topology.complete(HONEST + 3), "ring": Topology.ring(HONEST + 3, 2)}


@asynccontextmanager
async def workers(n: int) -> Any:
    """Workers of this process that speak TCP: to the engine they are other processes."""
    options = {"processes": False, "protocol": "tcp", "dashboard_address": ":0", "memory_limit": 0}
    async with LocalCluster(n_workers=n, threads_per_worker=1, asynchronous=True, **options) as cluster:
        yield cluster


def let_none_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every vector travel, however large it is."""
    monkeypatch.setattr(board, "shareable", lambda form: False)


def recipes() -> list[Recipe]:
    rules = [PlainGossip(), NearestNeighborAveraging(1), CoordinateWiseMedian()]
    kinds = [Quadratic, Quadratic, Coroutines]
    return [Recipe(kinds[i % 3], (goal, rules[i % 3])) for i, goal in enumerate(GOALS)]


LIARS = [Recipe(TwoFaced), Recipe(Vandal), Recipe(Constant, (3.0,))]


async def trained(
    backend: Any, honest: list[Recipe], liars: list[Recipe], topology: Topology, rounds: int = 4
) -> tuple[list[torch.Tensor], Any]:
    if backend is None:
        hon, byz = ([recipe.factory(*recipe.args) for recipe in part] for part in (honest, liars))
    else:
        hon = await HonestNodeActor.spawn_many(honest, backend=backend)
        byz = await ByzantineNodeActor.spawn_many(liars, backend=backend)
    async with PeerToPeer(hon, byz, topology, lr=0.2, deadline=30.0) as p2p:
        for _ in range(rounds):
            await p2p.round()
        able = [i for i, recipe in enumerate(honest) if hasattr(recipe.factory, "get_param_vector")]
        told = [hon[i].get_param_vector() for i in able]
        return [theta if isinstance(theta, torch.Tensor) else await theta for theta in told], p2p.history


def assert_same(got: tuple[list[Any], Any], want: tuple[list[Any], Any]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(got[0], want[0], strict=True))
    for here, there in zip(got[1], want[1], strict=True):
        assert here.norms == there.norms
        assert here.spread == there.spread
        assert here.consensus_distance == there.consensus_distance
        assert here.excluded == there.excluded
        assert here.through == there.through
