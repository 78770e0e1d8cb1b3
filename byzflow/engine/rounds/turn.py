"""Whose turn it is: of the rounds of a run, one at a time, whichever loop they are awaited on."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from types import TracebackType

__all__ = ("Turn",)

GOODBYE = 5.0  # [seconds] for a round that is ended to leave nothing behind
CLOSED = "A round needs an open run; this one was closed. Make a new one."


class Turn:
    """A lock for ``async with``, for one event loop after another.

    Tasks of one loop wait for each other. From another loop there is an error: a loop that is blocked, as
    that of a notebook whose cell waits for a ``_sync`` method, could never give the turn back. Whoever has
    the turn when it is closed is cancelled, and gets a `RuntimeError`, as does who wants it later.

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
        self._holder: asyncio.Task[object] | None = None
        self._is_closed = False
        self._left: Future[None] = Future()

    async def __aenter__(self) -> None:
        self._enlist(asyncio.get_running_loop())
        try:
            await self._lock.acquire()
        except BaseException:
            self._leave()
            raise
        with self._guard:
            self._holder = asyncio.current_task()
        if self._is_closed:
            self._give_back()
            raise RuntimeError(CLOSED)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        holder = self._holder
        self._give_back()
        if (
            self._is_closed
            and kind is asyncio.CancelledError
            and holder is not None
            and not holder.uncancel()
        ):
            raise RuntimeError("A round was under way when its run was closed. Make a new run.") from error

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

    def _give_back(self) -> None:
        with self._guard:
            self._holder = None
        self._lock.release()
        self._leave()
        if self._is_closed and not self._left.done():
            self._left.set_result(None)

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
