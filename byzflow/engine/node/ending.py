"""How tasks begin, how they end in whichever event loop they run, and which errors end them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

__all__ = ("begin", "end", "ends_us", "is_inside")

T = TypeVar("T")

_around: ContextVar[tuple[asyncio.Task[Any], ...]] = ContextVar("around", default=())


def begin(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Begin a task that `end` leaves alone where it is called from inside it, by way of other tasks too."""
    context = copy_context()
    task = asyncio.create_task(work, name=name, context=context)
    outer = [one for one in _around.get() if not one.done()]
    context.run(_around.set, (*outer, task))
    return task


def is_inside(task: asyncio.Task[Any]) -> bool:
    """Whether the caller runs in a task, or in one that was begun there: waiting for it might never end.

    Examples
    --------
    >>> async def example():
    ...     async def ask():
    ...         return await asyncio.gather(answer(), answer())
    ...     async def answer():
    ...         return is_inside(task)
    ...     task = begin(ask(), "ask")
    ...     return await task, is_inside(task)
    >>> asyncio.run(example())
    ([True, True], False)
    """
    return task is asyncio.current_task() or task in _around.get()


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait for those of the running loop; the one that this is called from ends by itself.

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
        if is_inside(task):
            continue
        if loop is here:
            task.cancel()
            own.append(task)
        else:
            with contextlib.suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(task.cancel)
    if own:
        await asyncio.wait(own)  # not gather: a task that waits for the caller would pass its end on to it
    for task in own:
        if not task.cancelled():
            task.exception()  # which is its owner's to look at


def ends_us(error: BaseException | None) -> bool:
    """Whether what foreign code raised is meant for the running task, or the process, and has to go on.

    A `CancelledError` is not if nobody cancelled this task: it comes from something that the code waited for.

    Examples
    --------
    >>> async def example():
    ...     return ends_us(asyncio.CancelledError()), ends_us(KeyboardInterrupt()), ends_us(None)
    >>> asyncio.run(example())
    (False, True, False)
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return error is not None and not isinstance(error, Exception)
