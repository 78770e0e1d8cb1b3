"""What goes to a node host and what comes back: plain records, no transport and no threads."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import methodcaller
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np

from byzflow.exceptions import DeadlineError

__all__ = (
    "LONG",
    "Call",
    "Outcome",
    "Recorder",
    "is_awaitable",
    "late",
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
