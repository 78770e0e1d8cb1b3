"""What many calls came to, in columns: arrays of one form as one array, errors by position.

A thousand small answers as a thousand records cost more to make, to pickle and to collect than the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.actor.stack import Stack, stackable
from byzflow.engine.listed import Listed

__all__ = ("Columns", "gathered_by")

Gather = Callable[[Mapping[int, Any]], Mapping[int, Any]]

_GATHERS: dict[type, Gather] = {}


class Columns(Listed[Outcome]):
    """The outcomes of calls, in their order; each is made when it is looked at.

    Parameters
    ----------
    values : sequence
        What each call returned; None if it failed.
    errors : mapping of int to BaseException
        What was raised, by position.
    said : mapping of int to str, optional
        What errors say, by position, where they were raised by foreign code.

    Attributes
    ----------
    stacks : tuple of (sequence of int, Stack)
        Small arrays of one form, with their positions.
    others : mapping of int
        By position, what else is not None.
    errors, said : dict of int to BaseException, dict of int to str
        What was raised, and what that says, by position.

    Examples
    --------
    >>> import numpy as np
    >>> columns = Columns([np.zeros(2), np.ones(2), "text", None], {3: ValueError("no")})
    >>> [(positions, stack.matrix.shape) for positions, stack in columns.stacks], columns.others
    ([([0, 1], (2, 2))], {2: 'text'})
    >>> columns[1].value, columns[3].error
    (array([1., 1.]), ValueError('no'))
    """

    __slots__ = ("_length", "_rows", "errors", "others", "said", "stacks")

    def __init__(
        self,
        values: Sequence[Any],
        errors: Mapping[int, BaseException],
        said: Mapping[int, str] | None = None,
    ) -> None:
        self.stacks, self.others = _sorted(values)
        self.errors, self.said = dict(errors), dict(said or {})
        self._length = len(values)
        self._rows: dict[int, Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.stacks, self.others, self.errors, self.said, self._length)

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Columns:
        """Return outcomes as columns; the arrays in them stay what they are."""
        if isinstance(outcomes, Columns):
            return outcomes
        others = {
            i: out.value for i, out in enumerate(outcomes) if out.error is None and out.value is not None
        }
        errors = {i: out.error for i, out in enumerate(outcomes) if out.error is not None}
        said = {i: text for i, out in enumerate(outcomes) if (text := getattr(out, "said", None)) is not None}
        return _made((), others, errors, said, len(outcomes))

    def __len__(self) -> int:
        return self._length

    def item(self, position: int) -> Outcome:
        """Return one of the outcomes."""
        if position in self.errors:
            return Outcome(None, self.errors[position], self.said.get(position))
        value = self.others.get(position)
        return Outcome(self._stacked().get(position) if value is None else value)

    def __iter__(self) -> Iterator[Outcome]:
        values = {**self._stacked(), **self.others}
        for position in range(self._length):
            if position in self.errors:
                yield self[position]
            else:
                yield Outcome(values.get(position))

    def _stacked(self) -> dict[int, Any]:
        if self._rows is None:
            self._rows = {
                i: row for at, stack in self.stacks for i, row in zip(at, stack.rows(), strict=True)
            }
        return self._rows


def gathered_by(kind: type) -> Callable[[Gather], Gather]:
    """Register what makes columns of values of one kind by position: a mapping that travels well.

    Examples
    --------
    >>> class Point(tuple): pass
    >>> @gathered_by(Point)
    ... def counted(points):
    ...     return dict.fromkeys(points, Point())
    >>> Columns([Point(), None, Point()], {}).others
    {0: (), 2: ()}
    """

    def note(gather: Gather) -> Gather:
        _GATHERS[kind] = gather
        return gather

    return note


def _sorted(values: Sequence[Any]) -> tuple[tuple[tuple[Sequence[int], Stack], ...], Mapping[int, Any]]:
    """Sort values into stacks and others."""
    if len(values) > 1 and (stack := Stack.tried(values)) is not None:  # as nearly always
        return ((list(range(len(values))), stack),), {}
    groups: dict[Any, list[int]] = {}
    for position, value in enumerate(values):
        if value is not None:
            groups.setdefault(stackable(value), []).append(position)
    others = {i: values[i] for i in groups.pop(None, ())}
    stacks = []
    for at in groups.values():
        if len(at) > 1:
            whole = values if len(at) == len(values) else [values[i] for i in at]
            stacks.append((at, Stack.of(whole)))
        else:
            others[at[0]] = values[at[0]]
    kinds = {*map(type, others.values())}
    gather = _GATHERS.get(kinds.pop()) if len(kinds) == 1 else None
    return tuple(stacks), others if gather is None else gather(others)


def _made(
    stacks: Any,
    others: Mapping[int, Any],
    errors: dict[int, BaseException],
    said: dict[int, str],
    length: int,
) -> Columns:
    columns = Columns((), {})
    columns.stacks, columns.others, columns._length = stacks, others, length
    columns.errors, columns.said = errors, said
    return columns
