"""Outcomes that come in from many threads, and wake the event loop once, with the last of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from byzflow.engine.actor.calls import Outcome

__all__ = ("Batch",)


class Batch:
    """The outcomes of `count` calls, on the event loop that waits for them.

    Parameters
    ----------
    count : int
        Calls in the batch.
    """

    def __init__(self, count: int) -> None:
        self._outcomes: list[Outcome | None] = [None] * count
        self._left = count
        self._open = True
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        if not count:
            self._done.set()

    def is_open(self) -> bool:
        """Whether outcomes are still wanted."""
        return self._open

    def settle(self, index: int, outcome: Outcome) -> None:
        """Put in the outcome of one call, from any thread; too late is not an error."""
        with self._lock:
            if not self._open:
                return
            self._outcomes[index] = outcome
            self._left -= 1
            if not self._left and not self._loop.is_closed():  # as that of a worker that ended meanwhile
                self._loop.call_soon_threadsafe(self._done.set)

    async def wait(self, deadline: float | None) -> None:
        """Return when all outcomes are in, or after `deadline` [seconds]."""
        try:
            async with asyncio.timeout(deadline):
                await self._done.wait()
        except TimeoutError:
            return

    def close(self, late: Callable[[int], Outcome]) -> list[Outcome]:
        """Take no more outcomes; return them in order, ``late(index)`` for those that are missing."""
        with self._lock:
            self._open = False
            return [out if out is not None else late(index) for index, out in enumerate(self._outcomes)]
