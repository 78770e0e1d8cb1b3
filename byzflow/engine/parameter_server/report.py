"""What one parameter-server round leaves behind for people: a frozen report."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from byzflow.engine.config import setting
from byzflow.engine.rounds.answers import Exclusion

__all__ = ("History", "RoundReport")


Report = TypeVar("Report", bound="RoundReport")


class History(Generic[Report]):
    """The latest reports of a run, as many as ``byzflow.round.history`` says.

    Examples
    --------
    >>> history = History()
    >>> history.append(RoundReport(0, ("honest-0",), 1))
    >>> [report.round for report in history.latest()]
    [0]
    """

    def __init__(self) -> None:
        self._reports: deque[Report] = deque(maxlen=int(setting("round.history")))

    def append(self, report: Report) -> None:
        """Add a report; the oldest one goes if there are too many."""
        self._reports.append(report)

    def latest(self) -> list[Report]:
        """Return the reports in a new list, oldest first."""
        return list(self._reports)


@dataclass(frozen=True)
class RoundReport:
    """One round in figures.

    Attributes
    ----------
    round : int
        Number of the round, from 0.
    nodes : tuple of str
        Names in node order: honest, then Byzantine.
    n_honest : int
        How many of them are honest.
    seconds : mapping of str to float
        By phase: ``gradients``, ``attack``, ``aggregation``, ``apply`` [seconds].
    bytes_moved : int
        Bytes of the vectors that crossed a process boundary, or would have [bytes].
    excluded : tuple of Exclusion
        Nodes left out of a phase, with their reasons.
    weights : tuple of float, or None
        Weight of every node in the aggregate, 0 for an excluded one; what they lack to 1 is that of what no
        node sent, as an origin or the last centre. None for a rule that takes each coordinate for itself,
        of which no one weight can be told. They are the same wherever the rule ran.
    norms : tuple of (float or None)
        Euclidean norm of what every node sent; None where nothing fit came.
    respawned : tuple of str
        Nodes that were lost with their worker in this round and brought back.

    Examples
    --------
    >>> report = RoundReport(0, ("honest-0", "byzantine-0"), 1, weights=(0.75, 0.25), norms=(1.0, 9.0))
    >>> report.byzantine_share
    0.25
    """

    round: int
    nodes: tuple[str, ...]
    n_honest: int
    seconds: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    bytes_moved: int = 0
    excluded: tuple[Exclusion, ...] = ()
    weights: tuple[float, ...] | None = None
    norms: tuple[float | None, ...] = ()
    respawned: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "seconds": dict(self.seconds)}  # a proxy can be neither pickled nor copied

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state, seconds=MappingProxyType(state["seconds"]))

    @property
    def byzantine_share(self) -> float | None:
        """Share of the absolute weight that Byzantine nodes got; None for a rule that is not linear."""
        if self.weights is None:
            return None
        total = sum(map(abs, self.weights))
        return sum(map(abs, self.weights[self.n_honest :])) / total if total else 0.0
