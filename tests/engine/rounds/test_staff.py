"""Clerks that are asked by stand-ins for their hosts."""

from __future__ import annotations

import asyncio
from typing import Any

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.rounds.forms import Signature
from byzflow.engine.rounds.staff import Clerk, Staff
from byzflow.exceptions import DeadlineError


class StandIn:
    """A host whose clerk answers when those of others have been asked too, or never."""

    lost = False

    def __init__(self, meeting: asyncio.Barrier, answers: bool) -> None:
        self.meeting, self.answers = meeting, answers

    async def call_many(self, calls: Any, deadline: float | None) -> list[Outcome]:
        await self.meeting.wait()
        if not self.answers:
            raise DeadlineError("it hangs")
        return [Outcome() for _ in calls]


async def test_hosts_forget_side_by_side_and_one_that_hangs_is_left_out() -> None:
    staff, meeting = Staff(), asyncio.Barrier(3)
    hosts: list[Any] = [StandIn(meeting, answers) for answers in (True, False, True)]
    staff._hosts = dict.fromkeys(hosts)
    site = Clerk().sheet(1, Signature("numpy", "float32", (3,)))
    async with asyncio.timeout(20):
        await staff.forget([site])
