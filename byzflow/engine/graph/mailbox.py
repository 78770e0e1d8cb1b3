"""Messages by type, each for all who wait for it, or for the next to ask, oldest first."""

from __future__ import annotations

import asyncio
import itertools
import threading
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
class _Delivery:
    """A message on its way to those who waited for it."""

    item: Item
    holders: int = 0
    is_taken: bool = False


@dataclass(eq=False)
class _Waiter:
    future: asyncio.Future[None]
    delivery: _Delivery | None = field(default=None)

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

    A message goes to all receivers that wait for its type, or is cached for the next one if nobody waits:
    never both. If all of them are cancelled, or time out, while it is on its way, it is cached after all,
    so nothing is lost.

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
        self._waiters: dict[str, list[_Waiter]] = {}

    def put(self, kind: str, payload: Any) -> None:
        """Hand a message to all receivers that wait, or keep it.

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
            self._waiters.setdefault(kind, []).append(waiter)
        try:
            await waiter.future
        except asyncio.CancelledError:
            self._abandon(kind, waiter)
            raise
        assert waiter.delivery is not None
        waiter.delivery.is_taken = True
        return waiter.delivery.item[1]

    def _abandon(self, kind: str, waiter: _Waiter) -> None:
        """Take a receiver out of the line; give back what it was handed, if nobody else has that."""
        with self._lock:
            if (delivery := waiter.delivery) is not None:
                delivery.holders -= 1
                if not delivery.holders and not delivery.is_taken:
                    self._place(kind, delivery.item)
                return
            line = self._waiters[kind]
            line.remove(waiter)
            if not line:
                del self._waiters[kind]

    def _place(self, kind: str, item: Item) -> None:
        delivery = _Delivery(item)
        for waiter in self._waiters.pop(kind, ()):
            waiter.delivery = delivery
            delivery.holders += waiter.wake()
        if not delivery.holders:
            heappush(self._cached.setdefault(kind, []), item)
