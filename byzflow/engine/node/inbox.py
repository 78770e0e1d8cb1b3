"""The queue that a node of this event loop reads its messages from."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

__all__ = ("Inbox",)


class Inbox(asyncio.Queue[dict[str, Any] | None]):
    """Messages in order, as many as there is room for; and an end, of which senders and the reader hear.

    Parameters
    ----------
    capacity : int, default 1
        Messages that wait unread before `take_in` waits too.

    Examples
    --------
    >>> async def example():
    ...     inbox = Inbox(10)
    ...     taken = await inbox.take_in({"payload": 1})
    ...     inbox.close()
    ...     return taken, await inbox.take_in({"payload": 2}), await inbox.get()
    >>> asyncio.run(example())
    (True, False, None)
    """

    def __init__(self, capacity: int = 1) -> None:
        super().__init__()  # without a bound of its own, so that the end always finds room
        self._capacity = capacity
        self._is_closed = False
        self._senders: dict[asyncio.Future[None], None] = {}

    async def take_in(self, message: dict[str, Any]) -> bool:
        """Append a message, waiting for room; False if the inbox is closed, or was before there was any."""
        while not self._is_closed and self.qsize() >= self._capacity:
            turn = asyncio.get_running_loop().create_future()
            self._senders[turn] = None
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._admit()  # another one, to the room that this one was given
                raise
            finally:
                self._senders.pop(turn, None)
        if not self._is_closed:
            self.put_nowait(message)
        return not self._is_closed

    def close(self) -> None:
        """Drop what is unread, turn away who waits, and end the reader, who gets None."""
        self._is_closed = True
        with contextlib.suppress(RuntimeError):  # the event loop in which they wait is closed
            while not self.empty():
                self.get_nowait()
            while self._senders:
                self._admit()
            self.put_nowait(None)

    def _get(self) -> dict[str, Any] | None:
        message = super()._get()
        self._admit()
        return message

    def _admit(self) -> None:
        """Wake the sender that has waited longest."""
        while self._senders:
            turn = next(iter(self._senders))
            del self._senders[turn]
            if not turn.done():  # else it was cancelled just now
                turn.set_result(None)
                return
