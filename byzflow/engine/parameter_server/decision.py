"""The first half of a round: collect the vectors, let Byzantine nodes see them, aggregate them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from byzflow.engine.actor.calls import Call
from byzflow.engine.actor.stack import stacked
from byzflow.engine.parameter_server.plan import AGGREGATE, ATTACK, GRADIENTS, Cohort
from byzflow.engine.parameter_server.progress import Progress
from byzflow.engine.parameter_server.reduction import Reduction, row_weights
from byzflow.engine.parameter_server.sharding import Sharding
from byzflow.engine.rounds.answers import judge
from byzflow.engine.rounds.arena import RowRef
from byzflow.engine.rounds.calls import Ask, Roster
from byzflow.engine.rounds.forms import Signature
from byzflow.engine.rounds.gallery import Gallery
from byzflow.engine.rounds.isolation import isolated, owned
from byzflow.engine.rounds.outcomes import NodeOutcomes
from byzflow.exceptions import DeadlineError, NodeLostError, ToleranceError

__all__ = ("GRADIENT_OF", "LIE_OF", "Decision")

GRADIENT_OF = "honest_gradient_for_next_batch"
LIE_OF = "byzantine_gradient_for_next_batch"


class Decision:
    """Finds out what the aggregate of a round is.

    Parameters
    ----------
    roster : Roster
        The nodes, honest first.
    cohort : Cohort
        Who they are.
    reduction : Reduction
        How rows become one vector.
    ask : callable
        Asks nodes for the round under way.
    deadline : float or None
        Seconds for the answers in one phase.
    """

    def __init__(
        self,
        roster: Roster,
        cohort: Cohort,
        reduction: Reduction,
        ask: Callable[[Mapping[int, Ask]], Awaitable[NodeOutcomes]],
        deadline: float | None,
    ) -> None:
        self._roster, self._cohort, self._reduction = roster, cohort, reduction
        self._ask, self._deadline = ask, deadline
        self._sharding = Sharding(roster)
        self._gallery = Gallery()
        self._form: Signature | None = None

    async def close(self) -> None:
        """Release what is held on the workers and here."""
        self._gallery.close()
        await self._sharding.close()

    async def decide(
        self, run: Progress, rule: Any, pre: Any, saved: Callable[[int], frozenset[int]]
    ) -> None:
        """Aggregate what the nodes of a round answer, and note it in `run`.

        Parameters
        ----------
        run : Progress
            The round.
        rule, pre : object
            Aggregator and pre-aggregator.
        saved : callable
            Says which Byzantine nodes' state is to be saved with the attack, given the bytes of a vector.

        Raises
        ------
        NodeLostError
            If a host that holds vectors is gone.
        ToleranceError
            If too few nodes gave a fit answer.
        """
        plan = run.plan
        with run.clock(GRADIENTS):
            if self._form is None and any(map(self._roster.is_away, self._cohort.honest)):
                await self._look()
            run.held = await self._stay(rule, pre, plan.number)
            await self._collect(run)
        with run.clock(ATTACK):
            liars, light = self._cohort.byzantine, saved(plan.signature.nbytes if plan.signature else 0)
            here = [i for i in liars if not run.held and self._roster.shares_memory(i)]
            away = sorted({*liars} - {*here})
            shown = await self._gallery.hang(tuple(plan.shown), len(here)) if here else ()
            lies = self._asks(run, here, LIE_OF, (shown,), light)
            told = (stacked(plan.shown) if away else (),)
            lies |= self._asks(run, away, LIE_OF, told, light)
            answers = run.without_states(await self._ask(lies), light)
            if not light >= {*away}:
                # A stack is a copy already; other vectors hold the tray that they came in.
                keep: Callable[[Any], Any] = _opened if run.held else isolated
                kept = await asyncio.to_thread(keep, plan.shown if run.held else told[0])
                run.lies = (Ask(LIE_OF, (kept,), most=0),)
            if raised := [i for i in light if _raised(answers[i].error)]:
                await self._save_raised(run, raised)
            mine = {i: owned(answers[i]) for i in liars if not self._roster.is_away(i)}
            plan.attacks({**answers, **mine} if mine else answers, held=run.held)
        with run.clock(AGGREGATE):
            await self._aggregate(run)
        self._form = plan.signature

    async def _collect(self, run: Progress) -> None:
        """Take the vectors of the honest nodes, but none far larger than most were before."""
        plan, honest, known = run.plan, self._cohort.honest, self._form
        try:
            plan.gradients(await self._ask(self._asks(run, honest, GRADIENT_OF)), held=run.held)
        except ToleranceError:
            if run.held or known is None or plan.signature is None or plan.signature.nbytes <= known.ceiling:
                raise
            plan.gradients(await self._ask(self._asks(run, honest, GRADIENT_OF)))  # most models have grown
        if run.held and plan.signature != known:  # most have another form, for which there are no rows
            run.held = False
            plan.gradients(await self._ask(self._asks(run, honest, GRADIENT_OF)))

    async def _look(self) -> None:
        """Find out what form vectors have: nodes compute, and say only what they have."""
        asks = dict.fromkeys(self._cohort.honest, Ask(GRADIENT_OF, held=True))
        self._form = judge(await self._ask(asks), self._cohort.names, GRADIENTS, held=True).signature

    async def _stay(self, rule: Any, pre: Any, round: int) -> bool:
        """Decide whether the vectors stay with their hosts: large ones, if the rule can be taken apart."""
        if self._reduction.pool is not None or not self._sharding.possible:
            return False
        if self._reduction.fused(pre, rule, round, self._cohort.n) is None:
            return False
        return self._form is not None and await self._sharding.ready(self._form, self._deadline)

    def _asks(
        self,
        run: Progress,
        nodes: Collection[int],
        method: str,
        args: tuple[Any, ...] = (),
        light: Collection[int] = (),
    ) -> dict[int, Ask]:
        places = self._sharding.places(run.plan.number) if run.held else {}
        form = run.plan.signature or self._form
        most = None if form is None else form.ceiling
        ask = Ask(method, args, held=run.held, most=most, places=places)
        asks = dict.fromkeys(nodes, ask)
        return asks | dict.fromkeys(asks.keys() & light, replace(ask, save=True)) if light else asks

    async def _save_raised(self, run: Progress, nodes: Collection[int]) -> None:
        """Note the states of Byzantine nodes whose answer, an error, has none with it."""
        calls = {i: [Call(self._roster.seat(i).object_id, "resident_save")] for i in nodes}
        for index, outcome in (await self._roster.call(calls, self._deadline)).items():
            if isinstance(outcome.error, NodeLostError):
                raise outcome.error
            if outcome.error is None:
                run.states[index] = outcome.value

    async def _aggregate(self, run: Progress) -> None:
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

    async def _reduce(
        self, run: Progress, rows: Sequence[Any], pre: Any, rule: Any
    ) -> Sequence[float] | None:
        if not run.held:
            run.aggregate, weights, run.state = await self._reduction.run(rows, pre, rule, run.plan.number)
            return weights
        fused = self._reduction.fused(pre, rule, run.plan.number, len(rows))
        assert fused is not None
        run.aggregate, plan, run.kept_at = await self._sharding.run(fused, rows, run.plan.number)
        run.state = self._reduction.state
        return row_weights(fused, plan)


def _opened(refs: Sequence[RowRef]) -> tuple[Any, ...]:
    """Return copies of vectors in rows of an arena, which are those of another round before long."""
    return tuple(isolated(ref.open()) for ref in refs)


def _raised(error: BaseException | None) -> bool:
    """Whether a node has answered with an error of its own."""
    return error is not None and not isinstance(error, NodeLostError | DeadlineError)
