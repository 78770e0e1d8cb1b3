"""Lost nodes come back, also when their new worker is lost, and stay pending until they have caught up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.node.returns import ATTEMPTS, Returns
from byzflow.exceptions import NodeLostError


class Respawning:
    """A roster whose nodes lose as many new workers as it is told."""

    def __init__(self, losses: int) -> None:
        self.losses, self.made = losses, list[int]()

    async def respawn(self, index: int) -> None:
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
