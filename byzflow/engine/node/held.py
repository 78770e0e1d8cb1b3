"""A mailbox that its reader holds by an open connection: a reader that is killed lets go of it."""

from __future__ import annotations

import asyncio

from byzflow.engine.actor.mailbox import Mailbox

__all__ = ("HeldMailbox",)


class HeldMailbox(Mailbox):
    """A mailbox that knows whether its reader is there, however long that takes for each message.

    Parameters
    ----------
    capacity : int
        Messages that wait unread before `put` waits too.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._holders = 0
        self._settled = asyncio.Event()  # it is held, or closed

    @property
    def is_held(self) -> bool:
        """Whether a connection of its reader is open."""
        return self._holders > 0

    def hold(self) -> None:
        """Count one more connection of the reader."""
        self._holders += 1
        self._settled.set()

    async def let_go(self, limit: float | None) -> bool:
        """Count one less, and say whether nobody holds it again, or closes it, within `limit` [seconds]."""
        self._holders -= 1
        if not self.is_held and not self._is_closed:
            self._settled.clear()
        try:
            async with asyncio.timeout(limit):
                await self._settled.wait()
        except TimeoutError:
            return True
        return False

    async def close(self) -> None:
        """Take no more, and end whoever waits; what is unread is dropped."""
        await super().close()
        self._settled.set()
