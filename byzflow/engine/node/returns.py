"""Lost nodes on their way back: made anew on a live worker, once more if that goes too, or rounds later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any

from byzflow.engine.actor.calls import Outcome, text_of
from byzflow.engine.actor.fleet import NoWorkersError
from byzflow.engine.node.calls import Roster
from byzflow.engine.node.mirrors import VectorLostError
from byzflow.exceptions import DeadlineError, NodeLostError

__all__ = ("Returns",)

ATTEMPTS = 10  # in one round; nodes that take every worker with them must not go on for ever
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
        Nodes that had no worker to go to, took down too many in a round, or could not be made; they may come
        back later.
    """

    def __init__(self, roster: Roster) -> None:
        self.pending: set[int] = set()
        self.stranded: set[int] = set()
        self._roster = roster
        self._round, self._attempts = -1, 0
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
        due = [i for i in self.stranded & gone.keys() if self._due.get(i, 0) <= round]
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
        catch_up: Callable[[Collection[int]], Awaitable[dict[int, Outcome]]],
        *,
        patient: bool = True,
    ) -> dict[int, Outcome]:
        """Make nodes anew on live workers and let them catch up.

        Parameters
        ----------
        lost : collection of int
            The nodes, beside those that are pending.
        round : int
            Number of the round under way.
        catch_up : callable
            Makes nodes that are as they were first into what they were last; returns the failures.
        patient : bool, default True
            Wait for a worker if there is none: once, not for each node.

        Returns
        -------
        dict of int to Outcome
            Only the nodes that could not be brought back, with the reason.
        """
        self.pending |= set(lost)
        if round != self._round:
            self._round, self._attempts = round, 0
        tried, failed = set(self.pending), dict[int, Outcome]()
        todo = tried
        self._roster.suspects.watch(todo)
        self._unmade.clear()
        while todo:
            self._attempts += 1
            guilty = todo & self._roster.suspects.guilty
            failures = await self._attempt(sorted(todo - guilty), catch_up, patient)
            failures |= dict.fromkeys(guilty, Outcome(error=_GuiltyError(GUILTY)))
            self.pending -= todo - failures.keys()
            failed |= failures
            todo = {i for i, out in failures.items() if _may_help(out.error)}
            if self._attempts >= ATTEMPTS:
                break
            failed = {i: out for i, out in failed.items() if i not in todo}
        self.pending.clear()
        self.stranded -= tried
        for index, outcome in failed.items():
            if index in self._unmade or _is_passing(outcome.error):
                self._put_off(index, outcome.error)
        return failed

    def _put_off(self, index: int, error: BaseException | None) -> None:
        """Let a node come back in a later round."""
        self.stranded.add(index)
        if isinstance(error, NoWorkersError):
            self._due.pop(index, None)
            return
        self._terms[index] += 1
        self._due[index] = self._round + 2 ** (self._terms[index] - 1)
        if isinstance(error, NodeLostError):
            self._costly.add(index)

    async def _attempt(
        self,
        indices: Collection[int],
        catch_up: Callable[[Collection[int]], Awaitable[dict[int, Outcome]]],
        patient: bool,
    ) -> dict[int, Outcome]:
        failed: dict[int, Outcome] = {}
        if self._attempts > ATTEMPTS:
            error = NodeLostError(f"workers went {ATTEMPTS} times in one round while nodes were made anew")
            return {index: Outcome(error=error) for index in indices}
        for index in indices:
            try:
                outcome = await self._roster.respawn(index, patient=patient)
            except (NodeLostError, DeadlineError) as error:
                failed[index] = Outcome(error=error)
                if isinstance(error, NodeLostError):
                    self._roster.suspects.strike(index)
                patient = patient and not isinstance(error, NoWorkersError)
            else:
                if outcome.error is not None:
                    self._unmade.add(index)
                    failed[index] = _made_anew(outcome)
        return failed | await catch_up([i for i in indices if i not in failed])


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


class _GuiltyError(NodeLostError):
    """A node that takes down workers."""


def _may_help(error: BaseException | None) -> bool:
    """Whether another attempt may help: a vector that is lost stays so, and guilt."""
    return isinstance(error, NodeLostError) and not isinstance(error, VectorLostError | _GuiltyError)


def _is_passing(error: BaseException | None) -> bool:
    """Whether a node that came to this has a place in later rounds.

    One whose constructor or past hangs has not: all others would wait for each try.
    """
    return isinstance(error, NodeLostError | NoWorkersError) and not isinstance(error, VectorLostError)
