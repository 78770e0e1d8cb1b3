"""One parameter-server round without I/O: outcomes go in, the next thing to do comes out.

gradients -> attack -> aggregate -> apply. Who is called where and how long anything took is the shell's
business (``rounds.py``); who is left out, whether the round may go on and which rule runs is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from byzflow.engine.fitting import candidates, tolerance
from byzflow.engine.parameter_server.report import RoundReport
from byzflow.engine.rounds.answers import Answered, Exclusion, Verdict, judge, refusal, remedy
from byzflow.engine.rounds.forms import Signature
from byzflow.engine.rounds.outcomes import NodeOutcomes
from byzflow.engine.rounds.vectors import rows_of
from byzflow.exceptions import ToleranceError

__all__ = ("Cohort", "Combine", "RoundPlan")

GRADIENTS, ATTACK, AGGREGATE, APPLY = "gradients", "attack", "aggregation", "apply"


@dataclass(frozen=True, slots=True)
class Cohort:
    """The nodes of a run in node order: honest, then Byzantine.

    Examples
    --------
    >>> Cohort(2, 1).names
    ('honest-0', 'honest-1', 'byzantine-0')
    """

    n_honest: int
    n_byzantine: int

    @property
    def n(self) -> int:
        """Number of nodes."""
        return self.n_honest + self.n_byzantine

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every node."""
        return _names(self.n_honest, self.n_byzantine)

    @property
    def honest(self) -> range:
        """Indices of the honest nodes."""
        return range(self.n_honest)

    @property
    def byzantine(self) -> range:
        """Indices of the Byzantine nodes."""
        return range(self.n_honest, self.n)


@lru_cache(maxsize=8)
def _names(n_honest: int, n_byzantine: int) -> tuple[str, ...]:
    """Return one tuple for all reports of a run."""
    honest = (f"honest-{i}" for i in range(n_honest))
    return (*honest, *(f"byzantine-{i}" for i in range(n_byzantine)))


@dataclass(frozen=True, slots=True)
class Combine:
    """The instruction to aggregate: rows in node order, and the rules to try, first fit first."""

    nodes: tuple[int, ...]
    rows: Sequence[Any]
    rules: tuple[tuple[Any, Any], ...]


class RoundPlan:
    """One round as a state machine.

    Call the methods in order: ``gradients`` and ``attacks`` take outcomes by node index, ``combine`` says
    what to aggregate, ``applied`` takes the outcomes of the last phase, ``failure`` says if that was too
    little, ``report`` closes.

    Parameters
    ----------
    cohort : Cohort
        Who takes part.
    number : int
        Number of the round.
    aggregator, pre_aggregator : object
        The rules; only their ``f`` is looked at.
    quorum : int or None
        Fit vectors needed; None means all nodes but those that the rules tolerate.

    Raises
    ------
    ToleranceError
        From ``gradients`` and ``combine``, when too few fit vectors are left; ``failure`` returns one.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace as Outcome
    >>> plan = RoundPlan(Cohort(2, 1), 0, aggregator=None)
    >>> plan.gradients({i: Outcome(value=np.full(1, float(i)), error=None) for i in plan.cohort.honest})
    >>> plan.attacks({2: Outcome(value=None, error=ZeroDivisionError("oops"))})
    >>> plan.combine().nodes, [str(exclusion) for exclusion in plan.excluded]
    ((0, 1), ['byzantine-0 (attack, raised: ZeroDivisionError: oops)'])
    """

    def __init__(
        self,
        cohort: Cohort,
        number: int,
        aggregator: Any,
        pre_aggregator: Any = None,
        quorum: int | None = None,
    ) -> None:
        self.cohort = cohort
        self.number = number
        self.honest = Verdict()
        self.byzantine = Verdict()
        self._rules = (pre_aggregator, aggregator)
        self._f = tolerance([rule for rule in self._rules if rule is not None], cohort.n)
        self.quorum = max(1, cohort.n - self._f) if quorum is None else quorum
        self._late: dict[int, Exclusion] = {}

    @property
    def signature(self) -> Signature | None:
        """The form that most honest vectors share."""
        return self.honest.signature

    @property
    def excluded(self) -> tuple[Exclusion, ...]:
        """Everybody left out so far, in the order of the phases and nodes."""
        verdicts = (self.honest.excluded, self.byzantine.excluded, self._late)
        return tuple(exclusion for found in verdicts for _, exclusion in sorted(found.items()))

    @property
    def shown(self) -> Sequence[Any]:
        """The honest vectors that Byzantine nodes get to see, in node order."""
        return rows_of(self.honest.vectors)

    def gradients(self, outcomes: Mapping[int, Answered], *, held: bool = False) -> None:
        """Take what the honest nodes came to; `held` if their vectors stayed with their hosts."""
        self.honest = judge(outcomes, self.cohort.names, GRADIENTS, held=held)
        possible = len(self.honest.vectors) + self.cohort.n_byzantine
        if not self.honest.vectors or possible < self.quorum:
            raise self._too_few(len(self.honest.vectors))

    def attacks(self, outcomes: Mapping[int, Answered], *, held: bool = False) -> None:
        """Take what the Byzantine nodes came to; their vectors must have the form of the honest ones."""
        self.byzantine = judge(outcomes, self.cohort.names, ATTACK, self.signature, held=held)

    def combine(self) -> Combine:
        """Say what to aggregate.

        The rules run as given if they can; if what is left is too small for that, with ``f`` lowered by the
        number of nodes that are out: those were the liars. Options that count nodes are those of the rest.
        """
        nodes = (*self.honest.vectors, *self.byzantine.vectors)
        if len(nodes) < self.quorum:
            raise self._too_few(len(nodes))
        out = frozenset(range(self.cohort.n)).difference(nodes)
        try:
            rules = tuple(candidates(*self._rules, out))
        except ToleranceError as error:
            raise self.refused(error) from error
        return Combine(nodes, rows_of(self.honest.vectors, self.byzantine.vectors), rules)

    def refused(self, error: ValueError) -> ToleranceError:
        """Return the error to raise when no candidate rule runs on what is left."""
        return ToleranceError(f"Round {self.number}: {error} {self._who()}")

    def applied(self, outcomes: Mapping[int, Answered]) -> frozenset[int]:
        """Take how the update went; return the nodes that did not get it."""
        names = self.cohort.names
        known = NodeOutcomes.of(outcomes)
        for index, error in known.errors.items():
            self._late[index] = Exclusion(names[index], APPLY, *refusal(error, known.said.get(index)))
        return frozenset(self._late)

    def failure(self) -> ToleranceError | None:
        """Return the error of a round whose update too few honest nodes have taken."""
        took = self.cohort.n_honest - len(self._late.keys() & {*self.cohort.honest})
        if took and took + self.cohort.n_byzantine >= self.quorum:
            return None
        least = max(1, self.quorum - self.cohort.n_byzantine)
        return ToleranceError(
            f"Round {self.number} needs {least} honest nodes that take its update; {took} did. {self._who()}"
        )

    def unsaved(self, exclusions: Mapping[int, Exclusion]) -> None:
        """Take who is missing in the checkpoint of the round."""
        self._late = {**exclusions, **self._late}

    def report(
        self,
        seconds: Mapping[str, float],
        *,
        bytes_moved: int = 0,
        weights: Mapping[int, float] | None = None,
        respawned: Collection[int] = (),
    ) -> RoundReport:
        """Close the round."""
        norms = {**self.honest.norms, **self.byzantine.norms}
        order, names = range(self.cohort.n), self.cohort.names
        return RoundReport(
            round=self.number,
            nodes=names,
            n_honest=self.cohort.n_honest,
            seconds=MappingProxyType(dict(seconds)),
            bytes_moved=bytes_moved,
            excluded=self.excluded,
            weights=None if weights is None else tuple(weights.get(i, 0.0) for i in order),
            norms=tuple(map(norms.get, order)),
            respawned=tuple(names[i] for i in sorted(respawned)),
        )

    def _too_few(self, came: int) -> ToleranceError:
        return ToleranceError(
            f"Round {self.number} needs {self.quorum} fit vectors of {self.cohort.n} nodes; "
            f"got {came}. {self._who()}"
        )

    def _who(self) -> str:
        if not self.excluded:
            return "No node was excluded: lower the quorum or f, or add nodes."
        people = "; ".join(map(str, self.excluded[:20]))
        more = f" and {len(self.excluded) - 20} more" if len(self.excluded) > 20 else ""
        usual = "Repair these nodes, allow more time or a lower quorum, or raise f."
        return f"Excluded: {people}{more}. {usual if self.honest.vectors else remedy(self.excluded, usual)}"
