"""What goes to a node host and what comes back: plain records, no transport and no threads."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import methodcaller
from types import MappingProxyType, TracebackType
from typing import Any, overload

import numpy as np

from byzflow.exceptions import DeadlineError

__all__ = (
    "LONG",
    "Call",
    "Outcome",
    "Recorder",
    "Sweep",
    "asks_of",
    "is_awaitable",
    "late",
    "names_of",
    "swept",
    "text_of",
)

LONG = 10_000  # characters of what an error says; what is beyond tells nobody anything, but has to travel


_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Call:
    """One method call on one object of a host.

    Examples
    --------
    >>> Call("node-3", "gradient", (0.1,)).method
    'gradient'
    """

    object_id: str
    method: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    def __reduce__(self) -> tuple[Any, ...]:  # half of what a data class makes pickle do
        called = (self.object_id, self.method, self.args)
        return Call, (*called, self.kwargs) if self.kwargs else called

    def ask(self) -> Callable[[Any], Any]:
        """Return what makes the call on the object itself."""
        return methodcaller(self.method, *self.args, **self.kwargs)


class Sweep(Sequence[Call]):
    """One method call on many objects of a host: the list of their names, and the call once.

    Parameters
    ----------
    object_ids : sequence of str
        The objects.
    method : str
        What is called on each.
    args : tuple, optional
        What all calls are given.
    each : mapping of str to sequence, optional
        Keyword arguments that differ: a value for each object.

    Examples
    --------
    >>> sweep = Sweep(["node-1", "node-2"], "gradient", (0.1,), each={"row": [5, 7]})
    >>> len(sweep), sweep[1]
    (2, Call(object_id='node-2', method='gradient', args=(0.1,), kwargs={'row': 7}))
    """

    __slots__ = ("args", "each", "method", "object_ids")

    def __init__(
        self,
        object_ids: Sequence[str],
        method: str,
        args: tuple[Any, ...] = (),
        each: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        self.object_ids, self.method, self.args, self.each = object_ids, method, args, dict(each or {})

    def __reduce__(self) -> tuple[Any, ...]:
        return Sweep, (self.object_ids, self.method, self.args, self.each)

    def __len__(self) -> int:
        return len(self.object_ids)

    @overload
    def __getitem__(self, index: int) -> Call: ...

    @overload
    def __getitem__(self, index: slice) -> Sweep: ...

    def __getitem__(self, index: int | slice) -> Call | Sweep:
        each = {name: values[index] for name, values in self.each.items()}
        if isinstance(index, slice):
            return Sweep(self.object_ids[index], self.method, self.args, each)
        return Call(self.object_ids[index], self.method, self.args, each or _NOTHING)


def swept(calls: Sequence[Call]) -> Sequence[Call]:
    """Return calls of several objects as a `Sweep`, if what is called is the very same for all.

    Examples
    --------
    >>> args = (0.1,)
    >>> type(swept([Call("node-1", "step", args), Call("node-2", "step", args)])).__name__
    'Sweep'
    """
    if isinstance(calls, Sweep) or len(calls) < 2 or calls[0].kwargs:
        return calls
    method, args = calls[0].method, calls[0].args
    if any(call.args is not args or call.method != method or call.kwargs for call in calls):
        return calls
    return Sweep([call.object_id for call in calls], method, args)


def names_of(calls: Sequence[Call]) -> Sequence[str]:
    """Return the name of the object of each of the calls.

    Examples
    --------
    >>> names_of([Call("node-3", "upper")]), names_of(Sweep(["node-1", "node-2"], "upper"))
    (['node-3'], ['node-1', 'node-2'])
    """
    return calls.object_ids if isinstance(calls, Sweep) else [call.object_id for call in calls]


def asks_of(calls: Sequence[Call]) -> list[Callable[[Any], Any]]:
    """Return what makes each of the calls on the object itself.

    Examples
    --------
    >>> [ask("a") for ask in asks_of([Call("node-3", "upper"), Call("node-3", "lower")])]
    ['A', 'a']
    """
    if isinstance(calls, Sweep) and calls and not calls.each:
        return [calls[0].ask()] * len(calls)
    return [call.ask() for call in calls]


@dataclass(frozen=True)
class Outcome:
    """How one call ended: with a value, or with the very exception that the called code raised.

    Attributes
    ----------
    said : str or None
        What the error says, if that was asked where it was raised.

    Examples
    --------
    >>> Outcome(value=3).unwrap()
    3
    """

    value: Any = None
    error: BaseException | None = None
    said: str | None = None

    def unwrap(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


class Recorder:
    """Run foreign code and keep whatever it raises as data.

    Code that users hand in may raise anything. A context manager says so in one place, and the
    error goes on as a value instead of ending the thread that serves the object.

    Examples
    --------
    >>> with Recorder() as record:
    ...     1 / 0
    >>> record.error
    ZeroDivisionError('division by zero')
    """

    __slots__ = ("error",)

    error: BaseException | None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error
        return True


_PLAIN = {type(None), bool, int, float, str, bytes, tuple, list, dict, np.ndarray}  # and tensors, once seen


def is_awaitable(value: Any) -> bool:
    """Whether `value` may be awaited; quick for what nodes mostly return.

    Examples
    --------
    >>> is_awaitable(None), is_awaitable(len)
    (False, False)
    """
    kind = type(value)
    if kind in _PLAIN:
        return False
    if kind is getattr(sys.modules.get("torch"), "Tensor", None):
        _PLAIN.add(kind)
        return False
    return inspect.isawaitable(value)


def late(call: Call, deadline: float | None, *, said: str | None = None) -> DeadlineError:
    """Return the error of a call that did not end within `deadline` [seconds]; `said` tells what was called.

    Examples
    --------
    >>> late(Call("node-3", "gradient"), 2.0)  # doctest: +ELLIPSIS
    DeadlineError("gradient() of 'node-3' had to end within 2.0 s; it is still running or queued. ...")
    """
    limit = "in time" if deadline is None else f"within {deadline} s"
    return DeadlineError(
        f"{said or f'{call.method}() of {call.object_id!r}'} had to end {limit}; it is still running or "
        "queued. Raise the deadline, or leave it out."
    )


def text_of(error: BaseException) -> str:
    """Return what an error says, in one line of at most 200 characters.

    An error's text is made by code of whoever raised it, which may fail or never end: ask in the thread that
    may be given up.

    Examples
    --------
    >>> text_of(ValueError("no"))
    'no'
    """
    with Recorder():
        return " ".join(str.split(str(error)[:LONG])[:200])[:200]
    return "an error that cannot be read"
