"""Outcomes that come in from many threads, and wake the event loop once, with the last of them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from byzflow.engine.actor.calls import text_of
from byzflow.engine.actor.columns import Columns
from byzflow.engine.actor.deadline import until
from byzflow.engine.actor.lane import WORK
from byzflow.engine.config import seconds

__all__ = ("Batch",)

GIVEN_BACK = 0.5  # of the caller's grace, at most, is for a loop that stood still: the rest is for the answer


class Batch:
    """Calls of lanes and what they come to, on the event loop that waits for them.

    Parameters
    ----------
    count : int
        Calls in the batch.
    asks : sequence of callable
        What makes each of the calls on the object of its lane; none where lanes have other work to report.
    portable : callable, optional
        What errors become, in the thread that raised them: that may run code of whoever made them.
    """

    def __init__(
        self,
        count: int,
        asks: Sequence[Callable[[Any], Any]] = (),
        portable: Callable[[BaseException], BaseException] | None = None,
    ) -> None:
        self.asks, self.is_open = asks, True
        self.context = contextvars.copy_context()
        self.context.run(WORK.set, weakref.ref(self))
        self._portable = portable
        self._values: list[Any] = [None] * count
        self._errors: dict[int, BaseException] = {}
        self._said: dict[int, str] = {}
        self._missing = dict.fromkeys(range(count))
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        if not count:
            self._done.set_result(None)

    def settle(self, index: int, value: Any, error: BaseException | None) -> None:
        """Put in the outcome of one call, from the thread that made it; too late is not an error."""
        if not self.is_open:
            return
        self._values[index] = value
        if error is not None:
            self._said[index] = text_of(error)  # foreign code too, and here nobody waits for it
            self._errors[index] = self._portable(error) if self._portable else error
        del self._missing[index]  # last: what is not missing is complete, so no lock is needed
        if not self._missing:
            with contextlib.suppress(RuntimeError):  # the loop is closed, as that of a worker that ended
                self._loop.call_soon_threadsafe(self._tell)

    async def wait(self, deadline: float | None) -> None:
        """Return when all outcomes are in, or after `deadline` [seconds]."""
        grace = 0.0 if deadline is None else seconds("host.grace") or 0.0
        await until([self._done], deadline, most=GIVEN_BACK * grace)

    def _tell(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def close(self, late: Callable[[int], BaseException] | None = None) -> Columns:
        """Take no more outcomes; return them in order, ``late(index)`` for the missing."""
        self.is_open = False
        missing = tuple(self._missing)
        if not missing:
            return Columns(self._values, self._errors, self._said)
        assert late is not None
        values, errors, said = self._values.copy(), self._errors.copy(), self._said.copy()
        for index in missing:  # a thread may be about to write here
            values[index], errors[index] = None, late(index)
            said.pop(index, None)
        return Columns(values, errors, said)
