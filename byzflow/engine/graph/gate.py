"""A semaphore for whoever comes, from any event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from typing import Literal

__all__ = ("Gate",)


class Gate(asyncio.Semaphore):
    """Lets so many through at a time, first come, first served; safe across threads and loops.

    Python's own belongs to the loop in which somebody first had to wait.

    Parameters
    ----------
    value : int
        How many.

    Examples
    --------
    >>> gate = Gate(1)
    >>> async def crowd():
    ...     async with gate:
    ...         await asyncio.sleep(0)
    >>> async def example():
    ...     await asyncio.gather(*(crowd() for _ in range(3)))
    >>> for _ in range(2):
    ...     asyncio.run(example())
    """

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self._lock = threading.Lock()
        self._line: deque[Future[None]] = deque()

    def locked(self) -> bool:
        """Whether the next one has to wait."""
        return self._value == 0

    async def acquire(self) -> Literal[True]:
        """Go through, waiting for a place."""
        with self._lock:
            if self._value > 0:
                self._value -= 1
                return True
            place: Future[None] = Future()
            self._line.append(place)
        try:
            await asyncio.wrap_future(place)
        except asyncio.CancelledError:
            if not place.cancel():  # it was given up this very moment
                self.release()
            raise
        return True

    def release(self) -> None:
        """Give the place to whoever has waited longest."""
        with self._lock:
            while self._line:
                place = self._line.popleft()
                if place.set_running_or_notify_cancel():
                    place.set_result(None)
                    return
            self._value += 1
