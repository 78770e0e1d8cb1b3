"""What nodes are shown begins where a tensor of their own would, wherever they are and however it got there.

Last bits of what MKL computes, as in `torch.dot`, depend on that.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.parameter_server.ps import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from byzflow.engine.rounds import sites
from tests.engine.peer_to_peer.held import workers

HONEST, LIARS = 4, 2


class Learner:
    """Descends towards its number, and notes where vectors begin that it is shown."""

    def __init__(self, number: int, d: int) -> None:
        self.w = torch.full((d,), float(number))
        self.begins: set[int] = set()

    def look(self, *vectors: torch.Tensor) -> None:
        self.begins |= {vector.data_ptr() % 64 for vector in vectors}

    def honest_gradient_for_next_batch(self) -> torch.Tensor:
        return self.w

    def apply_server_gradient(self, g: torch.Tensor) -> None:
        self.look(g)

    def p2p_half_step(self, lr: float) -> torch.Tensor:
        return self.w

    def p2p_aggregate_and_set(self, own: torch.Tensor, neighbors: Sequence[torch.Tensor]) -> None:
        self.look(own, *neighbors)

    def seen(self) -> set[int]:
        return self.begins


class Liar(Learner):
    def byzantine_gradient_for_next_batch(self, honest_grads: Sequence[torch.Tensor]) -> torch.Tensor:
        self.look(*honest_grads)
        return -honest_grads[0]

    def p2p_broadcast_vector(self, neighbor_vectors: Any, like: torch.Tensor) -> torch.Tensor:
        self.look(like, *neighbor_vectors)
        return -like


@pytest.mark.parametrize("backend", [None, "thread", "workers"])
@pytest.mark.parametrize(("d", "large"), [(5, 10**9), (50_001, 10**9), (50_001, 0)], ids=str)
@pytest.mark.parametrize("mode", ["server", "peers"])
async def test_every_vector_begins_where_one_of_the_nodes_own_would(
    monkeypatch: pytest.MonkeyPatch, mode: str, backend: str | None, d: int, large: int
) -> None:
    monkeypatch.setattr(sites, "LARGE", large)
    async with AsyncExitStack() as stack:
        recipes = [Recipe(Learner, (i, d)) for i in range(HONEST)]
        liars = [Recipe(Liar, (9, d))] * LIARS
        if backend is None:
            honest, byzantine = (
                [recipe.factory(*recipe.args) for recipe in part] for part in (recipes, liars)
            )
        else:
            where = await stack.enter_async_context(workers(2)) if backend == "workers" else backend
            honest = await HonestNodeActor.spawn_many(recipes, backend=where)
            byzantine = await ByzantineNodeActor.spawn_many(liars, backend=where)
        if mode == "server":
            run: Any = ParameterServer(honest, byzantine, CoordinateWiseMedian())
        else:
            run = PeerToPeer(honest, byzantine, Topology.complete(HONEST + LIARS))
        async with run:
            for _ in range(3):
                await run.round()
            told = [node.seen() for node in (*honest, *byzantine)]
            begins = [one if isinstance(one, set) else await one for one in told]
    assert begins == [{0}] * (HONEST + LIARS)
