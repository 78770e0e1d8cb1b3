"""What nodes came to, by node index, as it came from their hosts: in columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.actor.columns import Columns
from byzflow.engine.actor.stack import Stack
from byzflow.engine.listed import Listed
from byzflow.exceptions import DeadlineError, NodeLostError

__all__ = ("NodeOutcomes", "Replies", "errors_of", "unreached")


class NodeOutcomes(Mapping[int, Outcome]):
    """Outcomes by node index, in node order; each is made when it is looked at.

    Parameters
    ----------
    parts : sequence of (sequence of int, sequence of Outcome)
        Node indices, and the outcome of each.

    Examples
    --------
    >>> failed = Outcome(error=ValueError())
    >>> outcomes = NodeOutcomes([((2, 4), [Outcome("a"), failed]), ((3,), [Outcome("b")])])
    >>> list(outcomes), outcomes[3].value, outcomes.errors
    ([2, 3, 4], 'b', {4: ValueError()})
    """

    def __init__(self, parts: Sequence[tuple[Sequence[int], Sequence[Outcome]]]) -> None:
        self._parts = [(indices, Columns.of(outcomes)) for indices, outcomes in parts]
        self._places: dict[int, tuple[Columns, int]] | None = None

    @classmethod
    def of(cls, outcomes: Mapping[int, Any]) -> NodeOutcomes:
        """Return any outcomes by node index in this form."""
        return outcomes if isinstance(outcomes, cls) else cls([(tuple(outcomes), tuple(outcomes.values()))])

    def __len__(self) -> int:
        return sum(len(indices) for indices, _ in self._parts)

    def __iter__(self) -> Iterator[int]:
        return iter(self._placed())

    def __getitem__(self, index: int) -> Outcome:
        columns, position = self._placed()[index]
        return columns[position]

    @property
    def errors(self) -> dict[int, BaseException]:
        """What was raised, by node index in node order."""
        found = ((indices[at], e) for indices, columns in self._parts for at, e in columns.errors.items())
        return dict(sorted(found, key=lambda pair: pair[0]))

    @property
    def said(self) -> dict[int, str]:
        """What errors say, by node index, where that was asked in time."""
        return {indices[at]: text for indices, columns in self._parts for at, text in columns.said.items()}

    @property
    def stacks(self) -> list[tuple[list[int], Stack]]:
        """Small arrays of one form, with their node indices."""
        return [
            (list(indices) if len(at) == len(indices) else [indices[position] for position in at], stack)
            for indices, columns in self._parts
            for at, stack in columns.stacks
        ]

    @property
    def others(self) -> dict[int, Any]:
        """By node index, what is not in `stacks` and no error."""
        rest: dict[int, Any] = {}
        for indices, columns in self._parts:
            if len(columns.errors) + sum(len(at) for at, _ in columns.stacks) == len(indices):
                continue  # as nearly always
            known = {*columns.errors, *(position for at, _ in columns.stacks for position in at)}
            rest |= {index: columns.others.get(p) for p, index in enumerate(indices) if p not in known}
        return rest

    def _placed(self) -> dict[int, tuple[Columns, int]]:
        if self._places is None:
            places = (
                (index, (columns, position))
                for indices, columns in self._parts
                for position, index in enumerate(indices)
            )
            self._places = dict(sorted(places, key=lambda pair: pair[0]))
        return self._places


class Replies(Listed[Outcome]):
    """What the calls of one node came to, as they came in columns with those of others.

    Parameters
    ----------
    columns : Columns
        The outcomes of all.
    at : range
        Where those of this node are.

    Examples
    --------
    >>> columns = Columns(["a", "b", None], {2: ValueError()})
    >>> replies = Replies(columns, range(0, 3, 2))
    >>> len(replies), replies[0].value, replies.errors
    (2, 'a', [ValueError()])
    """

    __slots__ = ("_at", "_columns")

    def __init__(self, columns: Columns, at: range) -> None:
        self._columns, self._at = columns, at

    def __len__(self) -> int:
        return len(self._at)

    def item(self, position: int) -> Outcome:
        """Return what one of the calls came to."""
        return self._columns.item(self._at[position])

    @property
    def errors(self) -> list[BaseException]:
        """What was raised, in order."""
        errors = self._columns.errors
        return [errors[position] for position in self._at if position in errors] if errors else []


def errors_of(outcomes: Sequence[Outcome]) -> list[BaseException]:
    """Return what was raised, in order.

    Examples
    --------
    >>> errors_of([Outcome("a"), Outcome(error=ValueError())])
    [ValueError()]
    """
    if type(outcomes) is Replies:
        return outcomes.errors
    return [out.error for out in outcomes if out.error is not None]


def unreached(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the first outcome of a call that a node may not have gone through; None if there is none.

    Examples
    --------
    >>> late = Outcome(error=DeadlineError())
    >>> unreached([Outcome("a"), Outcome(error=ValueError()), late]) is late
    True
    """
    if not errors_of(outcomes):  # as nearly always, and soon said
        return None
    return next((out for out in outcomes if isinstance(out.error, NodeLostError | DeadlineError)), None)
