"""Messages by type, each taken exactly once, oldest first."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, NamedTuple

__all__ = ("Mailbox", "MailboxStatistics")

Item = tuple[int, Any]


class MailboxStatistics(NamedTuple):
    """What a mailbox holds at one moment."""

    cached: int
    waiting: int


@dataclass(eq=False)
class _Waiter:
    future: asyncio.Future[None]
    item: Item | None = field(default=None)

    def wake(self) -> bool:
        """Resume the waiting coroutine from any thread; False if its loop is gone."""
        try:
            self.future.get_loop().call_soon_threadsafe(_resolve, self.future)
        except RuntimeError:
            return False
        return True


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Mailbox:
    """A bounded store of messages, for any number of senders and receivers in any thread.

    A message goes to the receiver that has waited longest for its type, or is cached if nobody waits:
    never both. A receiver that is cancelled, or times out, while a message is on its way to it passes
    the message on, so nothing is lost; if later ones are on their way too, these move up behind it.

    Parameters
    ----------
    capacity : int, default 1024
        How many messages of one type may be cached [messages].

    Examples
    --------
    >>> box = Mailbox()
    >>> box.put("gradient", 1)
    >>> asyncio.run(box.get("gradient"))
    1
    """

    def __init__(self, capacity: int = 1024) -> None:
        if capacity < 1:
            raise ValueError(f"A mailbox needs capacity >= 1; got {capacity}. Raise it.")
        self.capacity = capacity
        self._lock = threading.Lock()
        self._count = itertools.count()
        self._cached: dict[str, list[Item]] = {}
        self._waiters: dict[str, deque[_Waiter]] = {}
        self._woken: dict[str, dict[_Waiter, None]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.capacity,)  # what is in it is for this process

    def put(self, kind: str, payload: Any) -> None:
        """Hand a message to the first receiver in line, or keep it.

        Raises
        ------
        asyncio.QueueFull
            If `capacity` messages of this type already wait to be taken. The message is not kept.
        """
        with self._lock:
            if len(self._cached.get(kind, ())) >= self.capacity:
                raise asyncio.QueueFull(
                    f"At most {self.capacity} messages of type {kind!r} are kept; one more came. "
                    f"Take messages before sending more, or raise the capacity."
                )
            self._place(kind, (next(self._count), payload))

    async def get(self, kind: str, *, timeout: float | None = None) -> Any:
        """Take the oldest message of a type, waiting for one if there is none.

        Raises
        ------
        TimeoutError
            If none came within `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._take(kind)
        except TimeoutError:
            raise TimeoutError(
                f"A message of type {kind!r} was required within {timeout} s; none came. "
                f"Check the sender, or wait longer."
            ) from None

    def statistics(self) -> MailboxStatistics:
        """Count what is cached and who waits, over all types."""
        with self._lock:
            return MailboxStatistics(*(sum(map(len, box.values())) for box in (self._cached, self._waiters)))

    async def _take(self, kind: str) -> Any:
        with self._lock:
            if cached := self._cached.get(kind):
                payload = heappop(cached)[1]
                if not cached:
                    del self._cached[kind]
                return payload
            waiter = _Waiter(asyncio.get_running_loop().create_future())
            self._waiters.setdefault(kind, deque()).append(waiter)
        try:
            await waiter.future
        except asyncio.CancelledError:
            self._abandon(kind, waiter)
            raise
        with self._lock:
            return self._handed(kind, waiter)[1]

    def _abandon(self, kind: str, waiter: _Waiter) -> None:
        """Take a receiver out of the line, passing on what it was already given."""
        with self._lock:
            if waiter.item is not None:
                item = self._handed(kind, waiter)
                for behind in self._woken.get(kind, ()):
                    assert behind.item is not None
                    if item < behind.item:
                        item, behind.item = behind.item, item
                self._place(kind, item)
                return
            line = self._waiters[kind]
            line.remove(waiter)
            if not line:
                del self._waiters[kind]

    def _handed(self, kind: str, waiter: _Waiter) -> Item:
        """Take what a receiver was given: from now on that is not passed on. Under the lock."""
        woken = self._woken[kind]
        del woken[waiter]
        if not woken:
            del self._woken[kind]
        assert waiter.item is not None
        return waiter.item

    def _place(self, kind: str, item: Item) -> None:
        line = self._waiters.get(kind)
        while line:
            waiter = line.popleft()
            if not line:
                del self._waiters[kind]
            waiter.item = item
            if waiter.wake():
                self._woken.setdefault(kind, {})[waiter] = None
                return
        heappush(self._cached.setdefault(kind, []), item)
