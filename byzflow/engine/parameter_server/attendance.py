"""Who answers: nodes that were late, that missed updates, that are gone for good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.config import setting
from byzflow.engine.node.calls import Ask, Roster
from byzflow.engine.node.outcomes import NodeOutcomes
from byzflow.exceptions import DeadlineError

__all__ = ("Attendance",)

PATIENCE = 0.05  # seconds that a node that was late before has at least


class Attendance:
    """Asks nodes and remembers how they did.

    A node that did not get an update gets it before its next call. One that was late is waited for only as
    long as the others take, until it answers again. One that is gone is not called any more.

    Parameters
    ----------
    roster : Roster
        How to reach the nodes.
    deadline : float or None
        Seconds for the answers in one phase.
    """

    def __init__(self, roster: Roster, deadline: float | None) -> None:
        self._roster = roster
        self.deadline = deadline
        self.gone: dict[int, Outcome] = {}
        self._late: set[int] = set()
        self._owed: dict[int, list[tuple[int, Ask]]] = {}
        self.limit = int(setting("round.backlog"))

    @property
    def absent(self) -> set[int]:
        """Nodes that have not answered the last time they were asked, or lack updates."""
        return {*self._late, *self._owed, *self.gone}

    def owe(self, index: int, round: int, update: Ask) -> None:
        """Note that a node did not get an update; too many of them and it is gone."""
        if index in self.gone:  # it is not asked, and if it is made anew it catches up by itself
            return
        owed = self._owed.setdefault(index, [])
        owed.append((round, update))
        if len(owed) > self.limit:
            text = f"it missed more than {self.limit} updates; make the server anew to take it back"
            self.gone[index] = Outcome(error=DeadlineError(text))
            del self._owed[index]

    def settled(self, index: int) -> None:
        """Note that a node is up to date, having been made anew."""
        self._late.discard(index)
        self._owed.pop(index, None)

    async def ask(self, round: int, asks: Mapping[int, Ask]) -> NodeOutcomes:
        """Ask nodes for a round; outcomes by index, in node order."""
        if not (self._owed or self._late or self.gone):
            answers = await self._roster.ask(round, asks, self.deadline)
            self._late = {i for i, error in answers.errors.items() if isinstance(error, DeadlineError)}
            return answers
        return NodeOutcomes.of(await self._ask_each(round, asks))

    async def _ask_each(self, round: int, asks: Mapping[int, Ask]) -> dict[int, Outcome]:
        queues = {i: [*self._owed.get(i, ()), (round, asks[i])] for i in asks if i not in self.gone}
        slow = {i: queue for i, queue in queues.items() if i in self._late}
        quick = {i: queue for i, queue in queues.items() if i not in self._late}
        begin = time.perf_counter()
        waiting = asyncio.ensure_future(self._roster.ask(round, slow, self.deadline))
        try:
            outcomes = dict(await self._roster.ask(round, quick, self.deadline))
            spent = time.perf_counter() - begin
            await asyncio.wait([waiting], timeout=max(PATIENCE, spent) if quick else None)
            behind = Outcome(error=DeadlineError("it has not answered an earlier call yet"))
            outcomes |= waiting.result() if waiting.done() else dict.fromkeys(slow, behind)
        finally:
            waiting.cancel()
        for index, outcome in outcomes.items():
            self._note(index, outcome)
        outcomes |= {i: self.gone[i] for i in asks if i in self.gone}
        return outcomes

    def _note(self, index: int, outcome: Outcome) -> None:
        if isinstance(outcome.error, DeadlineError):
            self._late.add(index)
            return
        self._late.discard(index)
        if outcome.error is None:
            self._owed.pop(index, None)
