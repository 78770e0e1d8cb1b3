"""Lost nodes come back, also when their new worker is lost, and stay pending until they have caught up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.node.calls import on_host
from byzflow.engine.node.returns import ATTEMPTS, Returns
from byzflow.engine.node.suspects import STRIKES, Suspects
from byzflow.exceptions import NodeLostError


class Respawning:
    """A roster whose nodes lose as many new workers as it is told."""

    def __init__(self, losses: int) -> None:
        self.losses, self.made = losses, list[int]()
        self.suspects = Suspects()

    async def respawn(self, index: int, *, patient: bool = True) -> None:
        self.made.append(index)
        if len(self.made) <= self.losses:
            raise NodeLostError("gone again")


async def caught_up(indices: Any) -> dict[int, Outcome]:
    return {}


async def test_a_node_whose_new_worker_is_lost_is_made_once_more() -> None:
    roster: Any = Respawning(losses=2)
    assert await Returns(roster).bring_back([3], 0, caught_up) == {}
    assert roster.made == [3, 3, 3]


async def test_a_node_that_takes_every_worker_with_it_is_given_up() -> None:
    roster: Any = Respawning(losses=10**6)
    returns = Returns(roster)
    failed = await returns.bring_back([3], 0, caught_up)
    assert isinstance(failed[3].error, NodeLostError)
    assert len(roster.made) == ATTEMPTS
    assert returns.pending == set()


async def test_a_node_that_was_made_but_has_not_caught_up_stays_pending() -> None:
    async def cancelled(indices: Any) -> dict[int, Outcome]:
        raise asyncio.CancelledError

    roster: Any = Respawning(losses=0)
    returns = Returns(roster)
    with pytest.raises(asyncio.CancelledError):
        await returns.bring_back([3], 0, cancelled)
    assert returns.pending == {3}
    assert await returns.bring_back([], 0, caught_up) == {}
    assert roster.made == [3, 3]


class Frail:
    """A host that is lost when a certain node is called."""

    def __init__(self, killer: str) -> None:
        self.killer, self.lost, self.messages = killer, False, list[list[str]]()

    async def call_many(self, calls: Any, deadline: float | None = None) -> list[Outcome]:
        if self.lost:
            raise NodeLostError("gone")
        self.messages.append([call.object_id for call in calls])
        self.lost = self.killer in self.messages[-1]
        if self.lost:
            raise NodeLostError("gone")
        return [Outcome(value=call.object_id) for call in calls]


async def test_suspects_are_called_alone_and_after_the_others() -> None:
    suspects, host = Suspects(), Frail("c")
    suspects.watch([1, 2])
    queues = [[Call(name, "step")] for name in "abcd"]
    answers = await suspects.deliver(on_host, host, range(4), queues, 5.0)
    assert host.messages == [["a", "d"], ["b"], ["c"]]
    assert [answer[0].value for answer in answers] == ["a", "b", None, "d"]
    assert suspects.guilty == set()


async def test_a_node_that_takes_down_its_worker_alone_is_guilty_but_not_who_is_lost_with_it() -> None:
    suspects = Suspects()
    suspects.watch([0, 1, 2])
    for _ in range(STRIKES):
        await suspects.deliver(on_host, Frail("a"), range(3), [[Call(name, "step")] for name in "abc"], None)
    assert suspects.guilty == {0}
    roster: Any = Respawning(losses=0)
    roster.suspects = suspects
    failed = await Returns(roster).bring_back([0, 1, 2], 0, caught_up)
    assert list(failed) == [0]
    assert roster.made == [1, 2]
    suspects.clear()
    assert suspects.guilty == set()
