"""Who answers: nodes that were late, that missed updates, that are gone for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.config import setting
from byzflow.engine.rounds.calls import Ask, Roster
from byzflow.engine.rounds.outcomes import NodeOutcomes
from byzflow.engine.rounds.patience import Patience
from byzflow.exceptions import DeadlineError

__all__ = ("Attendance",)


class Attendance:
    """Asks nodes and remembers how they did.

    A node that did not get an update gets it before its next call, and so does one that was made anew with
    what it has not caught up with. One that was late, or whose host was silent, is waited for only as long
    as the others take, until it answers again. One that is gone is not called any more.

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
        self._patience = Patience(roster)
        self._owed: dict[int, list[tuple[int, Ask]]] = {}
        self._pasts: dict[int, Sequence[tuple[int, Ask]]] = {}
        self.limit = int(setting("round.backlog"))

    @property
    def absent(self) -> set[int]:
        """Nodes that have not answered the last time they were asked, or lack updates."""
        return {*self._patience.late, *self._roster.silent(), *self._owed, *self.gone}

    def owe(self, index: int, round: int, update: Ask) -> None:
        """Note that a node did not get an update; too many of them and it is gone."""
        if index in self.gone:  # it is not asked, and if it is made anew it catches up by itself
            return
        owed = self._owed.setdefault(index, [])
        owed.append((round, update))
        if len(owed) > self.limit:
            text = f"it missed more than {self.limit} updates; make the server anew to take it back"
            self.gone[index] = Outcome(error=DeadlineError(text))
            self.settled(index)

    def settled(self, index: int, past: Sequence[tuple[int, Ask]] = ()) -> None:
        """Note that a node, having been made anew, is up to date but for its past."""
        self._patience.late.discard(index)
        self._owed.pop(index, None)
        self._pasts.pop(index, None)
        if past:
            self._patience.late.add(index)
            self._pasts[index] = past

    async def ask(self, round: int, asks: Mapping[int, Ask]) -> NodeOutcomes:
        """Ask nodes for a round; outcomes by index, in node order."""
        slow = self._patience.slow(round)
        if not (self._owed or slow or self.gone):
            answers = await self._roster.ask(round, asks, self.deadline)
            self._patience.late = {i for i, e in answers.errors.items() if isinstance(e, DeadlineError)}
            self._patience.note()
            return answers
        return NodeOutcomes.of(await self._ask_each(round, asks, slow))

    async def _ask_each(self, round: int, asks: Mapping[int, Ask], late: set[int]) -> dict[int, Outcome]:
        queues = {
            i: [*self._pasts.get(i, ()), *self._owed.get(i, ()), (round, asks[i])]
            for i in asks
            if i not in self.gone
        }
        slow = {i: queue for i, queue in queues.items() if i in late}
        quick = {i: queue for i, queue in queues.items() if i not in late}
        ask = self._roster.ask
        answers, others = await self._patience.wait(
            ask(round, quick, self.deadline), ask(round, slow, self.deadline), slow, alone=not quick
        )
        behind = Outcome(error=DeadlineError("it has not answered an earlier call yet"))
        outcomes = {**answers, **(dict.fromkeys(slow, behind) if others is None else others)}
        for index, outcome in outcomes.items():
            self._note(index, outcome)
        outcomes |= {i: self.gone[i] for i in asks if i in self.gone}
        return outcomes

    def _note(self, index: int, outcome: Outcome) -> None:
        if isinstance(outcome.error, DeadlineError):
            self._patience.late.add(index)
            return
        self._patience.late.discard(index)
        if outcome.error is None:
            self._pasts.pop(index, None)
            self._owed.pop(index, None)
