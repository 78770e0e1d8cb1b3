from __future__ import annotations

from typing import Any

import pytest

from byzflow.engine.parameter_server.sharding import Sharding
from byzflow.engine.rounds.calls import Roster
from byzflow.engine.rounds.forms import Signature


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
