"""Whose turn it is: of the rounds of a run, one at a time, whichever loop they are awaited on."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

__all__ = ("Turn",)


class Turn:
    """A lock for ``async with``, for one event loop after another.

    Tasks of one loop wait for each other. From another loop there is an error: a loop that is blocked, as
    that of a notebook whose cell waits for a ``_sync`` method, could never give the turn back.

    Examples
    --------
    >>> async def example():
    ...     async with turn:
    ...         return asyncio.current_task() is not None
    >>> turn = Turn()
    >>> asyncio.run(example()), asyncio.run(example())
    (True, True)
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._users = 0

    async def __aenter__(self) -> None:
        self._enlist(asyncio.get_running_loop())
        try:
            await self._lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        self._leave()

    def _enlist(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._guard:
            if loop is not self._loop:
                if self._users and self._loop is not None and not self._loop.is_closed():
                    raise RuntimeError(
                        "A run does one round at a time; another is under way, in another thread or event "
                        "loop. Await that one first, or call all rounds from one loop."
                    )
                self._loop, self._lock, self._users = loop, asyncio.Lock(), 0
            self._users += 1

    def _leave(self) -> None:
        with self._guard:
            self._users -= 1
