"""Open something once, however many threads and event loops ask for it at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

__all__ = ("Once",)


class Once:
    """Whether something is open, and the wait for whoever is opening it.

    Examples
    --------
    >>> opened = []
    >>> async def work():
    ...     opened.append("here")
    >>> async def example():
    ...     once = Once()
    ...     await asyncio.gather(once.open(work), once.open(work))
    ...     return opened, await once.close(), await once.close()
    >>> asyncio.run(example())
    (['here'], True, False)
    """

    def __init__(self) -> None:
        self._opening: Future[bool] | None = None
        self._guard = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()  # nothing of what is open goes elsewhere

    async def open(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`, or wait for the caller who does; if it was cancelled, another does it.

        Raises
        ------
        Exception
            What `work` raises, to all who wait for it; the next caller tries again.
        """
        while True:
            with self._guard:
                opening, is_mine = self._opening, self._opening is None
                if opening is None:
                    opening = self._opening = Future()
            if is_mine:
                await self._open(opening, work)
                return
            if await asyncio.shield(asyncio.wrap_future(opening)):
                return

    async def close(self, work: Callable[[], None] = lambda: None) -> bool:
        """Be closed, after an opening under way, and do `work` before the next; return whether it was not."""
        with self._guard:
            opening = self._opening
        if opening is None:
            return False
        if not opening.done():
            await asyncio.wait([asyncio.wrap_future(opening)])
        with self._guard:
            if self._opening is not opening:  # it failed, or another was faster
                return False
            work()
            self._opening = None
            return True

    async def _open(self, opening: Future[bool], work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except BaseException as error:
            with self._guard:
                self._opening = None
            if isinstance(error, Exception):
                opening.set_exception(error)
            else:
                opening.set_result(False)
            raise
        opening.set_result(True)
