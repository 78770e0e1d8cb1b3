"""The shell around `RoundPlan`: asks the nodes, aggregates, applies, and starts over when a worker is lost.

Every step may be done again, as nodes answer a round only once. So a round that was cancelled, or that lost
a worker, is simply gone through from the start, or from the update if the aggregate is known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.actor.stack import stacked
from byzflow.engine.config import setting
from byzflow.engine.node.answers import judge, owned
from byzflow.engine.node.arena import RowRef
from byzflow.engine.node.calls import Ask, Roster
from byzflow.engine.node.forms import Signature
from byzflow.engine.node.gallery import Gallery
from byzflow.engine.node.returns import Returns
from byzflow.engine.parameter_server.archive import Archive
from byzflow.engine.parameter_server.attendance import Attendance
from byzflow.engine.parameter_server.memory import Memory
from byzflow.engine.parameter_server.plan import AGGREGATE, APPLY, ATTACK, GRADIENTS, Cohort, RoundPlan
from byzflow.engine.parameter_server.reduction import Reduction, row_weights
from byzflow.engine.parameter_server.report import History, RoundReport
from byzflow.engine.parameter_server.sharding import Sharding
from byzflow.exceptions import NodeLostError, ToleranceError

__all__ = ("GRADIENT_OF", "LIE_OF", "UPDATE", "Rounds")

GRADIENT_OF = "honest_gradient_for_next_batch"
LIE_OF = "byzantine_gradient_for_next_batch"
UPDATE = "apply_server_gradient"


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
        self._sharding = Sharding(roster)
        self._gallery = Gallery()
        self._form: Signature | None = None
        self._open: _Open | None = None
        self._respawned: set[int] = set()
        self._returns = Returns(roster)

    async def run(self, rule: Any, pre: Any) -> Any:
        """Run the next round, or what is left of this one, and return the aggregate."""
        while True:
            try:
                if self._returns.pending:  # the call before was cancelled on the way
                    await self._bring_back(())
                return await self._attempt(rule, pre)
            except _LostError as loss:
                await self._bring_back(loss.nodes)

    async def resume(self, archive: Archive) -> int:
        """Take up the run that an archive holds."""
        self.number, self._reduction.state = await archive.read(self._deadline)
        self._open = None
        self._memory = self._blank_memory()  # what it held may be of rounds that are yet to come
        self._returns.pending.clear()  # the archive gave every node its state
        await self._memory.keep(self.number, self._deadline)
        return self.number

    def _blank_memory(self) -> Memory:
        every = int(setting("round.snapshot-every"))
        return Memory(self._roster, self._cohort, every, Ask(GRADIENT_OF))

    async def close(self) -> None:
        """Release what the rounds hold on the workers."""
        self._gallery.close()
        await self._sharding.close()

    async def _attempt(self, rule: Any, pre: Any) -> Any:
        if self._open is None:
            await self._memory.keep(self.number, self._deadline)
            self._open = await self._decide(rule, pre)
            self._memory.attacked(self.number, self._open.states)
        run = self._open
        await self._apply(run)
        await self._store(run)
        self._close(run)
        return run.aggregate

    async def _decide(self, rule: Any, pre: Any) -> _Open:
        """Collect the vectors of a round and aggregate them; no model changes."""
        run = _Open(RoundPlan(self._cohort, self.number, rule, pre, self._quorum))
        try:
            await self._collect(run, rule, pre)
        except NodeLostError:
            raise _LostError(()) from None
        except ToleranceError:
            self._memory.attacked(self.number, run.states)
            self._close(run)
            raise
        return run

    async def _collect(self, run: _Open, rule: Any, pre: Any) -> None:
        plan, light = run.plan, self._memory.light
        with run.clock(GRADIENTS):
            run.held = await self._stay(rule, pre)
            plan.gradients(await self._ask(self._asks(run, self._cohort.honest, GRADIENT_OF)), held=run.held)
        with run.clock(ATTACK):
            here = [i for i in self._cohort.byzantine if not run.held and self._roster.shares_memory(i)]
            away = [i for i in self._cohort.byzantine if i not in here]
            shown = await self._gallery.hang(plan.shown, len(here))
            lies = self._asks(run, here, LIE_OF, (shown,), light)
            sent = stacked(plan.shown) if away else ()
            lies |= self._asks(run, away, LIE_OF, (sent,), light)
            answers = run.without_states(await self._ask(lies), light)
            mine = {i: owned(out) for i, out in answers.items() if not self._roster.crossing([i])[0]}
            plan.attacks(answers | mine, held=run.held)
        with run.clock(AGGREGATE):
            await self._aggregate(run)
        self._form = plan.signature or self._form

    async def _stay(self, rule: Any, pre: Any) -> bool:
        """Decide whether the vectors stay with their hosts: large ones, if the rule can be taken apart."""
        if self._reduction.pool is not None or not self._sharding.possible:
            return False
        if self._reduction.fused(pre, rule, self.number, self._cohort.n) is None:
            return False
        if self._form is None:  # nodes compute, and say only what they have
            asks = dict.fromkeys(self._cohort.honest, Ask(GRADIENT_OF, held=True))
            self._form = judge(await self._ask(asks), self._cohort.names, GRADIENTS, held=True).signature
        return self._form is not None and await self._sharding.ready(self._form, self._deadline)

    def _asks(
        self,
        run: _Open,
        nodes: Collection[int],
        method: str,
        args: tuple[Any, ...] = (),
        light: Collection[int] = (),
    ) -> dict[int, Ask]:
        if not run.held:
            return {i: Ask(method, args, save=i in light) for i in nodes}
        places = {i: self._sharding.place(i, self.number) for i in nodes}
        return {i: Ask(method, args, save=i in light, held=True, place=row) for i, row in places.items()}

    async def _aggregate(self, run: _Open) -> None:
        combine = run.plan.combine()
        refusal: ToleranceError | None = None
        for pre, rule in combine.rules:
            try:
                weights = await self._reduce(run, combine.rows, pre, rule)
            except ToleranceError as error:
                refusal = refusal or error
                continue
            run.weights = None if weights is None else dict(zip(combine.nodes, weights, strict=True))
            return
        assert refusal is not None
        raise run.plan.refused(refusal) if run.plan.excluded else refusal

    async def _reduce(self, run: _Open, rows: Sequence[Any], pre: Any, rule: Any) -> Sequence[float] | None:
        if not run.held:
            run.aggregate, weights, run.state = await self._reduction.run(rows, pre, rule, self.number)
            return weights
        fused = self._reduction.fused(pre, rule, self.number, len(rows))
        assert fused is not None
        run.aggregate, plan, run.kept_at = await self._sharding.run(fused, rows, self.number)
        run.state = self._reduction.state
        return row_weights(plan)

    async def _apply(self, run: _Open) -> None:
        update = Ask(UPDATE, (run.aggregate,))
        sent = update if run.kept_at is None else Ask(UPDATE, (run.kept_at,))
        run.kept_at = None  # if this is done again, the host of a part may be gone
        with run.clock(APPLY):
            outcomes = await self._ask(dict.fromkeys(range(self._updated), sent))
        for index in run.plan.applied(outcomes):
            self._attendance.owe(index, self.number, update)
        self._memory.applied(self.number, update)

    async def _store(self, run: _Open) -> None:
        done = self.number + 1
        if self._archive is None or not self._archive.checkpoint.due(done):
            return
        states = await self._archive.states(self._deadline)
        self._check_lost(states)
        await asyncio.to_thread(self._archive.write, done, states, run.state)

    def _close(self, run: _Open) -> None:
        moved, back = self._traffic(run.plan), sorted(self._respawned)
        report = run.plan.report(run.seconds, bytes_moved=moved, weights=run.weights, respawned=back)
        self.history.append(report)
        if run.aggregate is not None:
            self._reduction.state = run.state
        self.number, self._open, self._respawned = self.number + 1, None, set()

    def _traffic(self, plan: RoundPlan) -> int:
        """Bytes of all vectors that one process handed to another: answers, what is shown, the update."""
        answers, _ = self._roster.crossing([*plan.honest.vectors, *plan.byzantine.vectors])
        _, liars = self._roster.crossing(self._cohort.byzantine)
        _, updated = self._roster.crossing(range(self._updated))
        size: int = max((vector.nbytes for vector in plan.shown), default=0)
        return size * (answers + liars * len(plan.shown) + updated)

    async def _ask(self, asks: Mapping[int, Ask]) -> dict[int, Outcome]:
        outcomes = await self._attendance.ask(self.number, asks)
        self._check_lost(outcomes)
        return outcomes

    def _check_lost(self, outcomes: Mapping[int, Outcome]) -> None:
        lost = {i for i, outcome in outcomes.items() if isinstance(outcome.error, NodeLostError)}
        if any(self._memory.knows(i) and i not in self._attendance.gone for i in lost):
            raise _LostError(lost)

    async def _bring_back(self, found: Collection[int]) -> None:
        """Make the nodes of lost workers anew; those for which that fails are gone."""
        lost = {*found, *self._roster.lost()} - self._attendance.gone.keys()
        known = {i for i in lost if self._memory.knows(i)} | self._returns.pending
        catch_up = partial(
            self._memory.catch_up,
            round=self.number,
            deadline=self._deadline,
            decided=self._open is not None,
            update_byz=self._updated == self._cohort.n,
        )
        failed = await self._returns.bring_back(known, self.number, catch_up)
        for index in lost | known:
            self._attendance.settled(index)
            if index not in known:
                failed[index] = Outcome(error=NodeLostError("its worker is gone, and its state was not kept"))
        self._attendance.gone |= failed
        self._respawned |= known - failed.keys()


class _LostError(Exception):
    """Nodes went with their worker and can be brought back."""

    def __init__(self, nodes: Collection[int]) -> None:
        super().__init__(nodes)
        self.nodes = nodes


class _Open:
    """A round under way: what is known of it so far."""

    def __init__(self, plan: RoundPlan) -> None:
        self.plan = plan
        self.held = False
        self.aggregate: Any = None
        self.kept_at: RowRef | None = None
        self.weights: dict[int, float] | None = None
        self.state: Mapping[str, Any] | None = None
        self.states: dict[int, bytes] = {}
        self.seconds: dict[str, float] = {}

    def without_states(self, outcomes: Mapping[int, Outcome], saved: Collection[int]) -> dict[int, Outcome]:
        """Take the states out of the answers that came with one."""
        plain = dict(outcomes)
        for index in saved:
            if plain[index].error is None:
                value, self.states[index] = plain[index].value
                plain[index] = Outcome(value, seconds=plain[index].seconds)
        return plain

    @contextmanager
    def clock(self, phase: str) -> Iterator[None]:
        """Add the time inside the block to a phase."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - begin
