"""Nodes that were late are waited for as long as the others take, and silent hosts once in a round."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.actor.sweeps import shares
from byzflow.engine.parameter_server.attendance import Attendance
from byzflow.engine.peer_to_peer.peers import Peers
from byzflow.engine.rounds.calls import Ask, Roster
from byzflow.exceptions import DeadlineError

CUT = 2


class Host:
    """Answers, or is cut off: then the first call fails at once, and others when they may go on."""

    def __init__(self, is_cut: bool) -> None:
        self.is_cut, self.is_silent, self.lost = is_cut, False, False
        self.over = asyncio.Event()

    async def call_many(self, calls: Sequence[Call], deadline: float | None = None) -> list[Outcome]:
        if self.is_cut and self.is_silent:
            await self.over.wait()
        self.is_silent = self.is_cut
        if self.is_cut:
            raise DeadlineError("it did not answer")
        return [Outcome(0) for _ in calls]


class Handle:
    """A node on a host."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def _place(self) -> Any:
        return self.host, "node"


def server(nodes: list[Any]) -> Any:
    attendance = Attendance(Roster(nodes), deadline=60.0)

    async def ask(round: int, asked: Sequence[int]) -> dict[int, bool]:
        outcomes = await attendance.ask(round, {i: Ask("gradient") for i in asked})
        return {i: outcomes[i].error is None for i in asked}

    return ask


def peers(nodes: list[Any]) -> Any:
    run = Peers(nodes, [])

    async def ask(round: int, asked: Sequence[int]) -> dict[int, bool]:
        run.number = round
        queues = shares([run.asks(asked, round, "step")])
        outcomes = await run.call({i: (i, queue) for i, queue in zip(asked, queues, strict=True)}, 60.0)
        return {i: outcomes[i][0].error is None for i in asked}

    return ask


@pytest.mark.parametrize("make", [server, peers])
async def test_a_host_that_is_cut_off_is_waited_for_once_in_a_round(make: Any) -> None:
    hosts = [Host(False), Host(True)]
    ask = make([Handle(host) for host in (hosts[0], hosts[0], hosts[1], hosts[1])])
    async with asyncio.timeout(20):
        assert await ask(0, [0, 1, CUT]) == {0: True, 1: True, CUT: False}
        assert await ask(0, [CUT + 1]) == {CUT + 1: False}  # which was not asked before
        assert await ask(1, [0, 1, CUT, CUT + 1]) == {0: True, 1: True, CUT: False, CUT + 1: False}
        alone = asyncio.ensure_future(ask(2, [CUT]))
        await asyncio.wait([alone], timeout=0.2)
        assert not alone.done()
        hosts[1].is_cut = False
        hosts[1].over.set()
        assert await alone == {CUT: True}
        assert await ask(2, range(4)) == dict.fromkeys(range(4), True)


class SlowHost(Host):
    """Says that its node is late, and then nothing before it may go on."""

    async def call_many(self, calls: Sequence[Call], deadline: float | None = None) -> list[Outcome]:
        if not self.is_cut:
            await self.over.wait()
            return [Outcome(0) for _ in calls]
        self.is_cut = False
        return [Outcome(error=DeadlineError("it is still running")) for _ in calls]


@pytest.mark.parametrize("make", [server, peers])
async def test_a_node_that_was_late_is_waited_for_as_long_as_the_others_take(make: Any) -> None:
    hosts = [Host(False), SlowHost(True)]
    ask = make([Handle(host) for host in hosts])
    async with asyncio.timeout(20):
        for round in range(3):
            assert await ask(round, [0, 1]) == {0: True, 1: False}
        hosts[1].over.set()
        assert await ask(3, [0, 1]) == {0: True, 1: True}
