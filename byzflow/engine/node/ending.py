"""How tasks end, in whichever event loop they run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

__all__ = ("end",)


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait for those of the running loop.

    Those of a loop that is closed have ended with it; those of one that runs in another thread, or around
    this one, are cancelled there.

    Examples
    --------
    >>> async def example():
    ...     task = asyncio.create_task(asyncio.Event().wait())
    ...     await end([task])
    ...     return task.cancelled()
    >>> asyncio.run(example())
    True
    """
    here, own = asyncio.get_running_loop(), []
    for task in tasks:
        loop = task.get_loop()
        if loop is here:
            task.cancel()
            own.append(task)
        else:
            with contextlib.suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(task.cancel)
    await asyncio.gather(*own, return_exceptions=True)
