"""What brings lost nodes back: their last state, and what every round since then did to them."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from dask.utils import parse_bytes

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.actor.stack import Stack
from byzflow.engine.config import setting
from byzflow.engine.parameter_server.plan import Cohort
from byzflow.engine.rounds.attributes import State, kept
from byzflow.engine.rounds.calls import Ask, Roster
from byzflow.engine.rounds.memo import UPDATE
from byzflow.engine.rounds.rota import OBJECT, Rota
from byzflow.exceptions import DeadlineError, NodeLostError

__all__ = ("Memory", "Snapshot")

logger = logging.getLogger(__name__)

LIGHT = 1 << 16  # bytes of a Byzantine node's state up to which it is saved with every attack
FEW = 4  # vectors of a round, as large as which it may be too: what an attack learns has their size


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a node before round `round`; or after its attack of that round, before the update.

    There is no `state` of a node that was as it had been made. A later one may have been `tried` in vain.
    """

    round: int
    state: State | None
    attacked: bool = False
    tried: int = -1

    @property
    def since(self) -> int:
        """The first round whose attack is not in the state."""
        return self.round + self.attacked

    @property
    def size(self) -> int:
        """Bytes of the state."""
        return 0 if self.state is None else len(self.state)


class Memory:
    """Snapshots of the nodes that live in other processes, and the updates since.

    A node is replayed: for every round since its snapshot it computes its gradient again and takes the same
    update, so that it ends bit for bit where it was. Byzantine nodes see many vectors: one whose state is at
    most as large as a few is saved with every attack instead. For others, as with a data set in it, what they
    were shown is kept, and if that is more than ``byzflow.round.replay-memory``, their states are sooner. If
    one is late then, what it has learned since its snapshot is lost with its worker, and logged. A node that
    gives no state is replayed from an older one, or from how it was made, while the updates since are no more
    than that either.

    Parameters
    ----------
    roster : Roster
        How to reach the nodes.
    cohort : Cohort
        Who they are.
    every : int
        Rounds between snapshots of a node.
    gradient : Ask
        What an honest node is asked in a round.
    """

    def __init__(self, roster: Roster, cohort: Cohort, every: int, gradient: Ask) -> None:
        self._roster, self._cohort, self._gradient = roster, cohort, gradient
        self._every, self._rota = every, Rota(cohort.n, every)
        self._snapshots: dict[int, Snapshot] = {}
        self._updates: dict[int, Ask] = {}
        self._lies: dict[int, tuple[Ask, ...]] = {}
        self._budget = parse_bytes(setting("round.replay-memory"))

    def light(self, nbytes: int) -> frozenset[int]:
        """Return the Byzantine nodes whose state is saved with every attack, where vectors have `nbytes`."""
        most = max(LIGHT, FEW * nbytes)
        snapshots = {i: self._snapshots[i] for i in self._cohort.byzantine if self.knows(i)}
        return frozenset(i for i, it in snapshots.items() if it.size <= most and it.tried < 0)

    def knows(self, index: int) -> bool:
        """Whether this node can be brought back."""
        return index in self._snapshots

    def lacks(self, index: int) -> int:
        """How many updates a node would have to catch up with, beyond those between two snapshots."""
        snapshot = self._snapshots.get(index)
        past = max(snapshot.round, snapshot.tried) if snapshot else 0
        return sum(round >= past for round in self._updates) - self._every

    def state(self, index: int) -> State | None:
        """Return the state that a node has to take up when it is made anew, if any."""
        return self._snapshots[index].state

    def drop(self, indices: Collection[int]) -> None:
        """Give up nodes for good: what only they would need is forgotten."""
        for index in indices:
            self._snapshots.pop(index, None)
        self._forget()

    async def keep(self, round: int, deadline: float | None, absent: Collection[int] = ()) -> None:
        """Take snapshots before a round of whom it is time; one that cannot be saved stays as it is kept.

        Those that are absent are left as they are kept: they may lack updates, and would be waited for.
        """
        costly = self._behind(round) if self._is_full() else ()
        turn = {*self._rota.due(round)}
        due = [i for i in self._rota.due(round, costly) if i not in absent]
        away = [i for i in due if self._roster.is_away(i)]
        if away:
            self._snapshots |= {i: Snapshot(round, None) for i in self._roster.untouched(away)}
            await self._save(away, round, deadline, costly)
        if self._is_full():  # one of them is late
            self._lies.clear()
        sizes = {i: self._snapshots[i].size if self.knows(i) else 0 for i in due if i in turn}
        self._rota.saved(round, sizes)

    async def _save(
        self, indices: Collection[int], round: int, deadline: float | None, costly: Collection[int]
    ) -> None:
        calls = {i: [Call(self._roster.seat(i).object_id, "resident_save")] for i in indices}
        outcomes = await self._roster.call(calls, deadline)
        sent = sum(_size(ask) + OBJECT for ask in self._updates.values())
        older = self._snapshots.keys() - {*costly} if sent <= self._budget else set[int]()
        failed = self._rota.refused(outcomes, self._cohort.names, older)
        left = failed & older
        for index, outcome in outcomes.items():
            if index in left:
                self._snapshots[index] = replace(self._snapshots[index], tried=round)
            elif index in failed:
                self._snapshots.pop(index, None)
            elif outcome.error is None:
                self._snapshots[index] = Snapshot(round, kept(outcome.value))
        self._forget()

    def attacked(self, round: int, states: Mapping[int, State], lies: tuple[Ask, ...] = ()) -> None:
        """Note the states of Byzantine nodes after their attack, and what the others were asked, if any."""
        for index, state in states.items():
            self._snapshots[index] = Snapshot(round, kept(state), attacked=True)
        if self._behind(round + 1):
            self._lies[round] = lies

    def applied(self, round: int, update: Ask) -> None:
        """Note the update of a round, which nobody may change any more."""
        if self._snapshots:
            self._updates[round] = update

    async def catch_up(
        self, indices: Collection[int], round: int, deadline: float | None, *, decided: bool, update_byz: bool
    ) -> dict[int, Outcome]:
        """Bring nodes that were made anew from the state that they took up to where they were in a round.

        Parameters
        ----------
        decided : bool
            Whether the round's gradients have been used already, so that honest nodes compute theirs again.
        update_byz : bool
            Whether Byzantine nodes get updates.

        Returns
        -------
        dict of int to Outcome
            Only the nodes for which that fails, with the reason.
        """
        for index in set(self._cohort.byzantine).intersection(indices):
            if self._attacks(index, round + decided) is None:
                logger.warning(
                    "%s goes on as it was before the attack of round %d: its state is too large to keep",
                    self._cohort.names[index],
                    self._snapshots[index].since,
                )
        pasts = {i: self.past(i, round, decided=decided, update_byz=update_byz) for i in indices}
        pasts = {i: past for i, past in pasts.items() if past}
        outcomes = await self._roster.ask(round, pasts, deadline)
        failed = {
            i: out for i, out in outcomes.items() if isinstance(out.error, NodeLostError | DeadlineError)
        }
        lacking = await self._lacking(outcomes.errors.keys() - failed, pasts, round, deadline)
        if lacking:  # what an update has met once may be over, as it was when the node took it
            await self._roster.ask(round, {i: pasts[i] for i in lacking}, deadline)
            failed |= await self._lacking(lacking, pasts, round, deadline)
        return failed

    async def _lacking(
        self,
        indices: Collection[int],
        pasts: Mapping[int, Sequence[tuple[int, Ask]]],
        round: int,
        deadline: float | None,
    ) -> dict[int, Outcome]:
        """Return which of some nodes have not taken the last update of their past, and why."""
        updates = {i: [(past, ask) for past, ask in pasts[i] if ask.method == UPDATE][-1:] for i in indices}
        asks = {i: last for i, last in sorted(updates.items()) if last}
        outcomes = await self._roster.ask(round, asks, deadline)
        return {i: outcomes[i] for i in outcomes.errors}

    def past(self, index: int, round: int, *, decided: bool, update_byz: bool) -> list[tuple[int, Ask]]:
        """Return what a node has been asked since its state was saved, as in `catch_up`."""
        honest = index in self._cohort.honest
        attacks = {} if honest else self._attacks(index, round + decided) or {}
        asks: list[tuple[int, Ask]] = []
        for past in range(self._snapshots[index].round, round + decided):
            asks.extend((past, ask) for ask in ((self._gradient,) if honest else attacks.get(past, ())))
            if past in self._updates and past < round and (honest or update_byz):
                asks.append((past, self._updates[past]))
        return asks

    def _attacks(self, index: int, end: int) -> dict[int, tuple[Ask, ...]] | None:
        """Return what a Byzantine node was asked since its state was saved, or None if some was not kept."""
        rounds = range(self._snapshots[index].since, end)
        return {past: self._lies[past] for past in rounds} if self._lies.keys() >= {*rounds} else None

    def _behind(self, round: int) -> list[int]:
        """Return the Byzantine nodes whose state was not saved after the attack before a round."""
        return [i for i in self._cohort.byzantine if self.knows(i) and self._snapshots[i].since < round]

    def _is_full(self) -> bool:
        return sum(_size(ask) for lies in self._lies.values() for ask in lies) > self._budget

    def _forget(self) -> None:
        oldest = min((snapshot.round for snapshot in self._snapshots.values()), default=math.inf)
        self._updates = {round: update for round, update in self._updates.items() if round >= oldest}
        liars = filter(self.knows, self._cohort.byzantine)
        first = min((self._snapshots[i].since for i in liars), default=math.inf)
        self._lies = {round: lies for round, lies in self._lies.items() if round >= first}


def _size(ask: Ask) -> int:
    """Return the bytes of an update, or of the vectors that a Byzantine node is shown."""
    (sent,) = ask.args
    if isinstance(sent, Stack):
        return int(sent.matrix.nbytes)
    return sum(int(row.nbytes) for row in sent) if isinstance(sent, list | tuple) else int(sent.nbytes)
