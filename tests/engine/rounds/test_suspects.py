"""Suspects are called alone, after all others, and it is they who are blamed for a worker that goes then."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.rounds.suspects import STRIKES, Suspects
from byzflow.exceptions import NodeLostError

NODES = [4, 5, 6, 7]
QUEUES = [[Call(f"node-{node}", "step")] for node in NODES]


class Sent:
    """A way to a host, on which it goes when one of some nodes is called."""

    def __init__(self, fatal: Sequence[int] = ()) -> None:
        self.fatal = {f"node-{node}" for node in fatal}
        self.groups: list[list[str]] = []
        self.limits: list[float] = []

    async def __call__(self, host: Any, queues: Any, deadline: Any) -> list[list[Outcome]]:
        names = [call.object_id for queue in queues for call in queue]
        self.groups.append(names)
        self.limits.append(deadline)
        host.lost = host.lost or not self.fatal.isdisjoint(names)
        return [[Outcome(error=NodeLostError("gone")) if host.lost else Outcome(name)] for name in names]


async def deliver(suspects: Suspects, sent: Sent, *, lost: bool = False) -> list[Any]:
    host = SimpleNamespace(lost=lost)
    answers = await suspects.deliver(sent, host, NODES, QUEUES, 10.0)
    return [outcome.value for (outcome,) in answers]


async def test_suspects_come_one_by_one_after_the_others_in_what_is_left_of_the_time() -> None:
    suspects, sent = Suspects(), Sent()
    suspects.watch([4, 6])
    assert await deliver(suspects, sent) == [f"node-{node}" for node in NODES]
    assert sent.groups == [["node-5", "node-7"], ["node-4"], ["node-6"]]
    assert 10.0 >= sent.limits[0] > sent.limits[1] > sent.limits[2] > 0.0


@pytest.mark.parametrize(
    ("lost", "fatal", "guilty"), [(False, [6], {6}), (True, [], set()), (False, [5], set())]
)
async def test_only_a_suspect_with_which_the_worker_goes_is_struck(
    lost: bool, fatal: list[int], guilty: set[int]
) -> None:
    suspects = Suspects()
    suspects.watch([6, 7])
    for _ in range(STRIKES):
        assert not suspects.guilty
        await deliver(suspects, Sent(fatal), lost=lost)
    assert suspects.guilty == guilty
