"""The shell around `RoundPlan`: asks the nodes, aggregates, applies, and starts over when a worker is lost.

Every step may be done again, as nodes answer a round only once. So a round that was cancelled, or that lost
a worker, is simply gone through from the start, or from the update if the aggregate is known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.config import setting
from byzflow.engine.identity import described
from byzflow.engine.parameter_server.archive import Archive
from byzflow.engine.parameter_server.attendance import Attendance
from byzflow.engine.parameter_server.decision import GRADIENT_OF, Decision
from byzflow.engine.parameter_server.memory import Memory
from byzflow.engine.parameter_server.plan import APPLY, Cohort, RoundPlan
from byzflow.engine.parameter_server.progress import Progress
from byzflow.engine.parameter_server.reduction import Reduction
from byzflow.engine.parameter_server.report import History, RoundReport
from byzflow.engine.rounds.calls import Ask, Roster
from byzflow.engine.rounds.isolation import isolated
from byzflow.engine.rounds.memo import UPDATE
from byzflow.engine.rounds.outcomes import NodeOutcomes
from byzflow.engine.rounds.returns import Returns, patience
from byzflow.exceptions import NodeLostError, ToleranceError

__all__ = ("Rounds",)


class Rounds:
    """Runs rounds one after another.

    Parameters
    ----------
    roster : Roster
        The nodes, honest first.
    cohort : Cohort
        Who they are.
    reduction : Reduction
        How rows become one vector.
    quorum : int or None
        See `RoundPlan`.
    update_byz : bool
        Whether Byzantine nodes get the aggregate.
    deadline : float or None
        Seconds for the answers in one phase.
    archive : Archive or None
        Where checkpoints go.
    """

    def __init__(
        self,
        roster: Roster,
        cohort: Cohort,
        reduction: Reduction,
        *,
        quorum: int | None,
        update_byz: bool,
        deadline: float | None,
        archive: Archive | None,
    ) -> None:
        self.number = 0
        self.history: History[RoundReport] = History()
        self._roster, self._cohort, self._reduction = roster, cohort, reduction
        self._quorum, self._deadline, self._archive = quorum, deadline, archive
        self._updated = cohort.n if update_byz else cohort.n_honest
        self._attendance = Attendance(roster, deadline)
        self._memory = self._blank_memory()
        self._decision = Decision(roster, cohort, reduction, self._ask, deadline)
        self._open: Progress | None = None
        self._respawned: set[int] = set()
        self._returns = Returns(roster)

    async def run(self, rule: Any, pre: Any) -> Any:
        """Run the next round, or what is left of this one, and return the aggregate."""
        if self._open is None:
            again, is_deserted = self._returns.recall(self._attendance.gone, self.number)
            if again:
                await self._bring_back(again, patient=is_deserted)
        while True:
            try:
                if self._returns.pending:  # the call before was cancelled on the way
                    await self._bring_back(())
                return await self._attempt(rule, pre)
            except _LostError as loss:
                await self._bring_back(loss.nodes)

    async def resume(self, archive: Archive, rule: Any, pre: Any) -> int:
        """Take up the run that an archive holds."""
        about = self._about(rule, pre)
        read = archive.read(self._deadline, lambda _: about, self._returns)
        self.number, self._reduction.state = await read
        self._open = None
        self._attendance = Attendance(self._roster, self._deadline)  # nobody owes what is yet to come
        self._memory = self._blank_memory()  # what it held may be of rounds that are yet to come
        self._returns.pending.clear()  # the archive gave every node its state
        self._returns.give_up(range(self._cohort.n))
        self._attendance.gone |= archive.missing
        await self._memory.keep(self.number, self._deadline)
        return self.number

    def _blank_memory(self) -> Memory:
        every = int(setting("round.snapshot-every"))
        return Memory(self._roster, self._cohort, every, Ask(GRADIENT_OF))

    async def close(self) -> None:
        """Release what the rounds hold on the workers."""
        await self._returns.close()
        await self._decision.close()

    async def _attempt(self, rule: Any, pre: Any) -> Any:
        self._roster.settle()
        if self._open is None:
            if self._archive is not None:
                await self._archive.try_out(self._deadline, self._attendance.absent)
            await self._memory.keep(self.number, self._deadline, self._attendance.absent)
            self._open = await self._decide(rule, pre)
            self._memory.attacked(self.number, self._open.states, self._open.lies)
        run = self._open
        await self._apply(run)
        failure = run.plan.failure()
        if failure is None:
            await self._store(run, rule, pre)
        self._close(run)
        if failure is not None:
            raise failure
        return run.aggregate

    async def _decide(self, rule: Any, pre: Any) -> Progress:
        """Collect the vectors of a round and aggregate them; no model changes."""
        run = Progress(RoundPlan(self._cohort, self.number, rule, pre, self._quorum))
        try:
            await self._decision.decide(run, rule, pre, self._memory.light)
        except NodeLostError:
            raise _LostError(()) from None
        except ToleranceError:
            self._memory.attacked(self.number, run.states, run.lies)
            self._close(run)
            raise
        return run

    async def _apply(self, run: Progress) -> None:
        # A copy, as nodes may get it much later: what the caller gets is the caller's, or the rule's.
        update = Ask(UPDATE, (isolated(run.aggregate),), most=0)
        sent = update if run.kept_at is None else replace(update, args=(run.kept_at,))
        run.kept_at = None  # if this is done again, the host of a part may be gone
        with run.clock(APPLY):
            outcomes = await self._ask(dict.fromkeys(range(self._updated), sent))
        for index in run.plan.applied(outcomes):
            self._attendance.owe(index, self.number, update)
        self._memory.applied(self.number, update)
        late = {i for i in self._returns.stranded if self._memory.lacks(i) > self._attendance.limit}
        self._returns.give_up(late)
        if self._attendance.gone:
            self._memory.drop(self._attendance.gone.keys() - self._returns.stranded)

    def _about(self, rule: Any, pre: Any) -> dict[str, str]:
        """Return what the run is, for a checkpoint."""
        seed = self._reduction.seed
        return {"seed": described(seed), "aggregator": described(rule), "pre_aggregator": described(pre)}

    async def _store(self, run: Progress, rule: Any, pre: Any) -> None:
        done = self.number + 1
        if self._archive is None or not self._archive.checkpoint.due(done):
            return
        states = await self._archive.states(self._deadline, self._attendance.absent)
        self._check_lost(states)
        about = self._about(rule, pre)
        await self._archive.put(done, states, run.state, about, run.plan.quorum)
        run.plan.unsaved(self._archive.refusals(states))

    def _close(self, run: Progress) -> None:
        moved, back = self._traffic(run.plan), self._respawned
        report = run.plan.report(run.seconds, bytes_moved=moved, weights=run.weights, respawned=back)
        self.history.append(report)
        if run.aggregate is not None:
            self._reduction.state = run.state
        self.number, self._open, self._respawned = self.number + 1, None, set()
        self._roster.suspects.clear()

    def _traffic(self, plan: RoundPlan) -> int:
        """Bytes of all vectors that one process handed to another: answers, what is shown, the update."""
        if plan.signature is None or not plan.honest.vectors:
            return 0
        answers, _ = self._roster.crossing({*plan.honest.vectors, *plan.byzantine.vectors})
        _, liars = self._roster.crossing(self._cohort.byzantine)
        _, updated = self._roster.crossing(range(self._updated))
        return plan.signature.nbytes * (answers + liars * len(plan.honest.vectors) + updated)

    async def _ask(self, asks: Mapping[int, Ask]) -> NodeOutcomes:
        outcomes = await self._attendance.ask(self.number, asks)
        self._check_lost(outcomes)
        return outcomes

    def _check_lost(self, outcomes: Mapping[int, Outcome]) -> None:
        errors = NodeOutcomes.of(outcomes).errors.items()
        lost = {i for i, error in errors if isinstance(error, NodeLostError)}
        if any(self._memory.knows(i) and i not in self._attendance.gone for i in lost):
            raise _LostError(lost)

    async def _bring_back(self, found: Collection[int], *, patient: bool = True) -> None:
        """Make the nodes of lost workers anew; those for which that fails are gone."""
        lost = {*found, *self._roster.lost()} - self._attendance.gone.keys()
        known = {i for i in lost if self._memory.knows(i)} | self._returns.pending
        for index in lost | known:
            self._attendance.settled(index)
        back = self._returns.bring_back
        wait = patience(self._deadline) if patient else 0.0
        failed = await back(known, self.number, self._memory.state, self._catch_up, patience=wait)
        for index in lost | known:
            if index not in known:
                failed[index] = Outcome(error=NodeLostError("its worker is gone, and its state was not kept"))
        self._attendance.gone |= failed
        self._respawned |= known - failed.keys()
        self._memory.drop(failed.keys() - self._returns.stranded)

    async def _catch_up(self, indices: Collection[int]) -> dict[int, Outcome]:
        """Bring nodes that were made anew to where they were; one that is not is late from now on."""
        now = {"decided": self._open is not None, "update_byz": self._updated == self._cohort.n}
        failed = await self._memory.catch_up(indices, self.number, self._deadline, **now)
        late = [i for i, outcome in failed.items() if not isinstance(outcome.error, NodeLostError)]
        for index in late:
            self._attendance.settled(index, self._memory.past(index, self.number, **now))
            del failed[index]
        return failed


class _LostError(Exception):
    """Nodes went with their worker and can be brought back."""

    def __init__(self, nodes: Collection[int]) -> None:
        super().__init__(nodes)
        self.nodes = nodes
