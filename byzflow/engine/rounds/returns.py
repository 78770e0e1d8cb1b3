"""Lost nodes on their way back: made anew on a live worker, once more if that goes too, or rounds later.

Rounds wait for a node that is made anew as long as a worker has to start; one that takes longer, as its
constructor hangs, is made beside them and comes back when it is ready.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any

from byzflow.engine.actor.calls import Outcome, text_of
from byzflow.engine.actor.connection import ClientClosedError
from byzflow.engine.actor.fleet import NoWorkersError
from byzflow.engine.config import seconds
from byzflow.engine.rounds.attributes import State
from byzflow.engine.rounds.calls import Roster
from byzflow.engine.rounds.mirrors import VectorLostError
from byzflow.engine.rounds.moving import Move
from byzflow.engine.rounds.suspects import is_loss
from byzflow.exceptions import DeadlineError, NodeLostError

__all__ = ("Returns", "patience")

ATTEMPTS = 10  # in one round; nodes that take every worker with them must not go on for ever
TURN = 1.0  # seconds that a round has for making a node whatever others have taken
GUILTY = "it took down its worker again and again when nothing else was called there"


class Returns:
    """The nodes of a run that are lost and not back yet.

    A node made anew is not itself before it has caught up. So it stays pending when that is cancelled, or
    when its new worker is lost as well; nobody may call it until it is back.

    Parameters
    ----------
    roster : Roster
        Makes nodes anew.

    Attributes
    ----------
    pending : set of int
        Nodes that are not to be called.
    stranded : set of int
        Nodes that had no worker to go to, took down too many in a round, could not be made, or are being made
        still; they may come back later.
    """

    def __init__(self, roster: Roster) -> None:
        self.pending: set[int] = set()
        self.stranded: set[int] = set()
        self._roster = roster
        self._round, self._attempts, self._left = -1, 0, math.inf
        self._moves: dict[int, Move] = {}
        self._slow: set[int] = set()
        self._ended: list[Move] = []
        self._terms: Counter[int] = Counter()
        self._due: dict[int, int] = {}
        self._costly: set[int] = set()
        self._unmade: set[int] = set()

    def recall(self, gone: dict[int, Outcome], round: int) -> tuple[set[int], bool]:
        """Take nodes that may come back in a round out of those that are gone, to try again with them.

        One that could not be made, or took down workers, may 1 round after the first time, then 2, 4 and so
        on: whatever was wrong may be over. One that took down workers waits until the cluster has replaced
        them and can spare one; if one more goes, it is out again. So an accident costs a node one round, and
        a liar few workers, however long it lasts.

        The second value says whether to wait for a worker: no node is left that has one.
        """
        is_deserted = len(gone) == len(self._roster.nodes)
        due = [i for i in self.stranded & gone.keys() if self._is_due(i, round)]
        again = {i for i in due if i not in self._costly or _can_spare(self._roster.seat(i).host)}
        for index in again:
            del gone[index]
            if index in self._costly:
                self._roster.suspects.strike(index)
        self._costly -= again
        return again, is_deserted

    async def bring_back(
        self,
        lost: Collection[int],
        round: int,
        state_of: Callable[[int], State | None],
        catch_up: Callable[[Collection[int]], Awaitable[dict[int, Outcome]]],
        *,
        patience: float = 0.0,
    ) -> dict[int, Outcome]:
        """Make nodes anew on live workers and let them catch up.

        Parameters
        ----------
        lost : collection of int
            The nodes, beside those that are pending.
        round : int
            Number of the round under way.
        state_of : callable
            The state that a node takes up when it is made, if any.
        catch_up : callable
            Makes nodes that are as that state says into what they were last; returns the failures.
        patience : float, default 0
            How long to wait for a worker if there is none [seconds]: once, not for each node.

        Returns
        -------
        dict of int to Outcome
            Only the nodes that could not be brought back, with the reason.
        """
        self.pending |= set(lost)
        if round != self._round:
            self._round, self._attempts = round, 0
            self._left = seconds("host.start-deadline") or math.inf
        tried, failed = set(self.pending), dict[int, Outcome]()
        todo = tried
        self._roster.suspects.watch(todo)
        self._unmade.clear()
        while todo:
            self._attempts += 1
            guilty = todo & self._roster.suspects.guilty
            failures = await self._attempt(sorted(todo - guilty), state_of, catch_up, patience)
            failures |= dict.fromkeys(guilty, Outcome(error=_GuiltyError(GUILTY)))
            self.pending -= todo - failures.keys()
            failed |= failures
            todo = {i for i, out in failures.items() if _may_help(out.error)}
            if self._attempts >= ATTEMPTS:
                break
            failed = {i: out for i, out in failed.items() if i not in todo}
        self.pending.clear()
        self.stranded -= tried
        self._slow -= tried - failed.keys()
        for index, outcome in failed.items():
            if index in self._unmade or _is_passing(outcome.error):
                self._put_off(index, outcome.error)
        return failed

    async def make_anew(
        self, lost: Collection[int], round: int, deadline: float | None
    ) -> dict[int, Outcome]:
        """Make nodes anew as they were made first, for somebody who has a state for them.

        Returns
        -------
        dict of int to Outcome
            Only the nodes for which that fails, with the reason.
        """
        return await self.bring_back(lost, round, _no_state, _caught_up, patience=patience(deadline))

    def give_up(self, indices: Collection[int]) -> None:
        """Take nodes back in no later round."""
        self.stranded.difference_update(indices)
        for index in self._moves.keys() & set(indices):
            self._ended.append(self._moves.pop(index))
            self._ended[-1].cancel()

    async def close(self) -> None:
        """End what is under way."""
        self.give_up([*self._moves])
        ended, self._ended = self._ended, []
        await asyncio.gather(*(move.close() for move in ended))

    def _is_due(self, index: int, round: int) -> bool:
        move = self._moves.get(index)
        return self._due.get(index, 0) <= round if move is None else move.is_over

    def _put_off(self, index: int, error: BaseException | None) -> None:
        """Let a node come back in a later round."""
        self.stranded.add(index)
        if isinstance(error, NoWorkersError) or index in self._moves:
            self._due.pop(index, None)
            return
        self._terms[index] += 1
        self._due[index] = self._round + 2 ** (self._terms[index] - 1)
        if isinstance(error, NodeLostError):
            self._costly.add(index)

    async def _attempt(
        self,
        indices: Collection[int],
        state_of: Callable[[int], State | None],
        catch_up: Callable[[Collection[int]], Awaitable[dict[int, Outcome]]],
        patience: float,
    ) -> dict[int, Outcome]:
        failed: dict[int, Outcome] = {}
        if self._attempts > ATTEMPTS:
            error = NodeLostError(f"workers went {ATTEMPTS} times in one round while nodes were made anew")
            return {index: Outcome(error=error) for index in indices}
        for index in indices:
            try:
                outcome = await self._moved(index, state_of, patience)
            except (NodeLostError, DeadlineError) as error:
                failed[index] = Outcome(error=error)
                if is_loss(error):
                    self._roster.suspects.strike(index)
                patience = 0.0 if isinstance(error, NoWorkersError) else patience
            else:
                if outcome.error is not None:
                    self._unmade.add(index)
                    failed[index] = _made_anew(outcome)
        return failed | await catch_up([i for i in indices if i not in failed])

    async def _moved(self, index: int, state_of: Callable[[int], State | None], patience: float) -> Outcome:
        """Return how it went that a node was made anew, waiting for that if it has not taken long before.

        Raises
        ------
        DeadlineError
            If it goes on.
        """
        move = self._moves.get(index)
        if move is None:
            move = self._moves[index] = self._roster.move(index, state_of(index), patience=patience)
        if not move.is_over and index not in self._slow:
            begin, limit = time.monotonic(), max(self._left, TURN)
            await move.wait(None if limit == math.inf else limit)
            if not move.is_over:
                self._slow.add(index)
                self._left -= time.monotonic() - begin
        if not move.is_over:
            raise DeadlineError("it is being made anew, and not ready yet")
        del self._moves[index]
        return self._roster.seated(index, move)


def patience(deadline: float | None) -> float:
    """Return how long a round with this deadline waits for a worker when there is none [seconds].

    Examples
    --------
    >>> patience(0.5), patience(30.0), patience(None)
    (8.0, 30.0, 60.0)
    """
    limits = (deadline, seconds("host.return-deadline"))
    least = seconds("comm.connect-timeout")
    return max(math.inf if least is None else least, min(x for x in (*limits, math.inf) if x is not None))


def _made_anew(outcome: Outcome) -> Outcome:
    """Return what a constructor raised, so that nobody takes it for a loss, with a text that says when."""
    error = outcome.error
    assert error is not None
    text = f"when it was made anew: {outcome.said or text_of(error)}"
    is_ours = issubclass(type(error), NodeLostError | DeadlineError)
    return replace(outcome, error=RuntimeError(text) if is_ours else error, said=text)


def _can_spare(host: Any) -> bool:
    """Whether the cluster of a host has replaced the workers that it lost, and can go on with one less."""
    return bool(host.runtime.can_spare)


def _no_state(index: int) -> None:
    """Return what a node takes up that is to stay as it is made."""


async def _caught_up(indices: Collection[int]) -> dict[int, Outcome]:
    """Say that nodes have nothing to catch up with."""
    return {}


class _GuiltyError(NodeLostError):
    """A node that takes down workers."""


def _may_help(error: BaseException | None) -> bool:
    """Whether another attempt may help: a vector that is lost stays so, a closed client, and guilt."""
    lasting = VectorLostError | ClientClosedError | _GuiltyError
    return isinstance(error, NodeLostError) and not isinstance(error, lasting)


def _is_passing(error: BaseException | None) -> bool:
    """Whether a node that came to this has a place in later rounds."""
    lasting = VectorLostError | ClientClosedError
    return isinstance(error, NodeLostError | DeadlineError) and not isinstance(error, lasting)
