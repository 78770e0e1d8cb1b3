"""Whose turn it is: of the rounds of a run, one at a time, whichever loop they are awaited on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager

__all__ = ("Turn",)

GOODBYE = 5.0  # [seconds] for a round that is ended to leave nothing behind
CLOSED = "A round needs an open run; this one was closed. Make a new one."


class Turn:
    """A lock for one event loop after another.

    Tasks of one loop wait for each other. From another loop there is an error: a loop that is blocked, as
    that of a notebook whose cell waits for a ``_sync`` method, could never give the turn back. Whoever has
    the turn when it is closed is cancelled, and gets a `RuntimeError`, as does who wants it later.

    Examples
    --------
    >>> async def example():
    ...     async with turn.taken():
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
        self._holder: asyncio.Task[object] | None = None
        self._is_closed = False
        self._left: Future[None] = Future()

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Have the turn for the length of an ``async with``."""
        lock = self._enlist(asyncio.get_running_loop())
        try:
            await lock.acquire()
        except BaseException:
            self._leave(lock, waited=True)
            raise
        with self._guard:
            self._holder = holder = asyncio.current_task()
        try:
            if self._is_closed:
                raise RuntimeError(CLOSED)
            yield
        except asyncio.CancelledError as error:
            if not self._is_closed or holder is None or holder.uncancel():
                raise
            raise RuntimeError("A round was under way when its run was closed. Make a new run.") from error
        finally:
            self._give_back(lock)

    async def close(self) -> None:
        """Cancel whoever has the turn, and wait until it is given back; nobody gets it any more."""
        with self._guard:
            was_closed, self._is_closed = self._is_closed, True
            holder, loop = self._holder, self._loop
        if holder is None or holder is asyncio.current_task():
            return
        if loop is not None and not loop.is_closed():
            if not was_closed:
                loop.call_soon_threadsafe(self._cancel, holder)
            await asyncio.wait([asyncio.wrap_future(self._left)], timeout=GOODBYE)

    def _cancel(self, holder: asyncio.Task[object]) -> None:
        if self._holder is holder:  # still, on its own loop
            holder.cancel()

    def _give_back(self, lock: asyncio.Lock) -> None:
        if not self._leave(lock):
            return
        lock.release()
        if self._is_closed and not self._left.done():
            self._left.set_result(None)

    def _enlist(self, loop: asyncio.AbstractEventLoop) -> asyncio.Lock:
        with self._guard:
            if loop is not self._loop:
                if self._users and self._loop is not None and not self._loop.is_closed():
                    raise RuntimeError(
                        "A run does one round at a time; another is under way, in another thread or event "
                        "loop. Await that one first, or call all rounds from one loop."
                    )
                self._loop, self._lock, self._users, self._holder = loop, asyncio.Lock(), 0, None
            self._users += 1
            return self._lock

    def _leave(self, lock: asyncio.Lock, *, waited: bool = False) -> bool:
        """Count one user less; False where its loop was closed, and the turn is another loop's by now."""
        with self._guard:
            if lock is not self._lock:
                return False
            self._users -= 1
            if not waited:
                self._holder = None
            return True
