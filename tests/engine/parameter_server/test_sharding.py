from __future__ import annotations

from typing import Any

import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.parameter_server.sharding import Sharding
from byzflow.engine.rounds import sites
from byzflow.engine.rounds.calls import Roster
from byzflow.engine.rounds.forms import Signature
from tests.engine.forgiving import forgiving_cluster
from tests.engine.parameter_server.nodes import Liar
from tests.engine.sine_node import SineNode


@pytest.mark.parametrize(
    ("nodes", "length", "stay"),
    [
        (1000, 1_000, False),
        (1000, 10_000, False),
        (4000, 10_000, True),
        (100, 19_000, False),
        (100, 21_000, True),
    ],
)
async def test_short_vectors_stay_with_their_hosts_only_when_there_are_very_many(
    monkeypatch: pytest.MonkeyPatch, nodes: int, length: int, stay: bool
) -> None:
    opened: list[Signature] = []

    async def open_(self: Sharding, signature: Signature, hosts: Any) -> None:
        opened.append(signature)

    monkeypatch.setattr(Sharding, "_open", open_)
    await Sharding(Roster([object()] * nodes)).ready(Signature("torch", "float32", (length,)), 1.0)
    assert bool(opened) is stay


class Growing(SineNode):
    """Changes the form of its vector in one round."""

    def __init__(self, number: int, form: Any) -> None:
        super().__init__(number)
        self.form = form

    def misbehave(self) -> None:
        if self.steps == 3:
            self.vector = (
                torch.cat([self.vector] * self.form) if type(self.form) is int else self.vector.to(self.form)
            )

    def told(self) -> torch.Tensor:
        return self.vector


@pytest.mark.parametrize("form", [2, torch.float64])
async def test_most_vectors_that_stay_with_their_hosts_may_take_another_form(
    monkeypatch: pytest.MonkeyPatch, form: Any
) -> None:
    monkeypatch.setattr(sites, "LARGE", 1)
    monkeypatch.setattr(sites, "TIMES", 1)
    recipes, held = [Recipe(Growing, (i, form if i else torch.float32)) for i in range(4)], []
    reduce = Sharding.run
    monkeypatch.setattr(Sharding, "run", lambda *args: held.append(args[-1]) or reduce(*args))

    async def trained(honest: list[Any], liars: list[Any]) -> list[Any]:
        async with ParameterServer(honest, liars, CoordinateWiseMedian()) as ps:
            values = [await ps.round() for _ in range(5)]
        assert {exclusion.node for exclusion in ps.history[2].excluded} == {"honest-0"}
        return values

    async with forgiving_cluster(2) as cluster:
        honest = await HonestNodeActor.spawn_many(recipes, backend=cluster)
        got = await trained(honest, await ByzantineNodeActor.spawn_many([Recipe(Liar)], backend=cluster))
    want = await trained([Growing(*recipe.args) for recipe in recipes], [Liar()])
    assert held == [0, 1, 3, 4]
    assert all(map(torch.equal, got, want))
