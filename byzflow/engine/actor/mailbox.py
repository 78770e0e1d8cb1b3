"""A bounded mailbox: first in, first out, nothing lost, nothing doubled.

The reader names the last message that it has got. A message leaves the box only then, so that one whose
reader was cancelled on the way is handed out again, and none is handed out twice to a reader that has it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

__all__ = ("Mailbox",)


class Mailbox:
    """The messages of one actor under one channel name, on the event loop of its worker.

    Parameters
    ----------
    capacity : int
        Messages that wait unread before `put` waits too.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._messages: deque[tuple[int, Any]] = deque()
        self._sent = 0
        self._shown = 0
        self._is_closed = False
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        return sum(number > self._shown for number, _ in self._messages)

    async def put(self, message: Any) -> None:
        """Append a message, waiting for room.

        Raises
        ------
        LookupError
            If the mailbox is closed, or was before there was room.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._is_closed or len(self) < self._capacity)
            self._require_open()
            self._sent += 1
            self._messages.append((self._sent, message))
            self._changed.notify_all()

    async def get(self, received: int, timeout: float | None) -> tuple[int, Any] | None:
        """Return the first message after number `received`, or None after `timeout` [seconds].

        Raises
        ------
        LookupError
            If the mailbox is closed, or was before there was a message.
        """
        async with self._changed:
            while self._messages and self._messages[0][0] <= received:
                self._messages.popleft()
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait_for(lambda: self._is_closed or self._messages)
            except TimeoutError:
                return None
            self._require_open()
            number, message = self._messages[0]
            self._shown = max(self._shown, number)
            self._changed.notify_all()
            return number, message

    async def close(self) -> None:
        """Take no more, and end whoever waits; what is unread is dropped."""
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _require_open(self) -> None:
        if self._is_closed:
            raise LookupError("A message needs an open mailbox; this one was closed. Make a new one.")
