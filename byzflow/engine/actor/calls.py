"""What goes to a node host and what comes back: plain records, no transport and no threads."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

__all__ = ("Call", "Outcome", "Recorder", "text_of")


@dataclass(frozen=True)
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
    kwargs: Mapping[str, Any] = field(default_factory=dict)


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
    seconds: float = 0.0
    said: str | None = None

    @classmethod
    def of(cls, value: Any, record: Recorder) -> Outcome:
        """Return how recorded code ended; what its error says is asked here, as that is foreign code too."""
        if record.error is None:
            return cls(value, None, record.seconds)
        return cls(None, record.error, record.seconds, text_of(record.error))

    def unwrap(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


class Recorder:
    """Run foreign code and keep whatever it raises as data, with the time that it took [seconds].

    Code that users hand in may raise anything. A context manager says so in one place, and the
    error goes on as a value instead of ending the thread that serves the object.

    Examples
    --------
    >>> with Recorder() as record:
    ...     1 / 0
    >>> record.error
    ZeroDivisionError('division by zero')
    """

    error: BaseException | None = None
    seconds: float = 0.0

    def __enter__(self) -> Recorder:
        self._begin = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.seconds = time.perf_counter() - self._begin
        self.error = error
        return True


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
        return " ".join(str.split(str(error))[:200])[:200]
    return "an error that cannot be read"
