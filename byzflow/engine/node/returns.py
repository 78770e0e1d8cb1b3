"""Lost nodes on their way back: made anew on a live worker, and once more if that one goes too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.actor.fleet import NoWorkersError
from byzflow.engine.node.calls import Roster
from byzflow.engine.node.mirrors import VectorLostError
from byzflow.exceptions import NodeLostError

__all__ = ("Returns",)

ATTEMPTS = 10  # in one round; a node that takes every worker with it must not go on for ever
GUILTY = "it took down its worker again and again when nothing else was called there; it is not made again"


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
        Nodes that had no worker to go to; one may come.
    """

    def __init__(self, roster: Roster) -> None:
        self.pending: set[int] = set()
        self.stranded: set[int] = set()
        self._roster = roster
        self._round, self._attempts = -1, 0

    def recall(self, gone: dict[int, Outcome]) -> tuple[set[int], bool]:
        """Take nodes that had no worker to go to out of those that are gone, to try again with them.

        The second value says whether to wait for a worker: no node is left that has one.
        """
        is_deserted = len(gone) == len(self._roster.nodes)
        again = self.stranded & gone.keys()
        for index in again:
            del gone[index]
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
        self.stranded |= {i for i, out in failed.items() if isinstance(out.error, NoWorkersError)}
        return failed

    async def _attempt(
        self,
        indices: Collection[int],
        catch_up: Callable[[Collection[int]], Awaitable[dict[int, Outcome]]],
        patient: bool,
    ) -> dict[int, Outcome]:
        failed: dict[int, Outcome] = {}
        if self._attempts > ATTEMPTS:
            error = NodeLostError(f"it lost its worker {ATTEMPTS} times in one round; it is not made again")
            return {index: Outcome(error=error) for index in indices}
        for index in indices:
            try:
                await self._roster.respawn(index, patient=patient)
            except (NodeLostError, TimeoutError) as error:
                failed[index] = Outcome(error=error)
                patient = patient and not isinstance(error, NoWorkersError)
        return failed | await catch_up([i for i in indices if i not in failed])


class _GuiltyError(NodeLostError):
    """A node that takes down workers."""


def _may_help(error: BaseException | None) -> bool:
    """Whether another attempt may help: a vector that is lost stays so, and guilt."""
    return isinstance(error, NodeLostError) and not isinstance(error, VectorLostError | _GuiltyError)
