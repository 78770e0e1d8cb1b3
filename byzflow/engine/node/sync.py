"""The way from plain code into a coroutine, whether a loop runs around the caller or not."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

__all__ = ("run_sync",)

T = TypeVar("T")

TURN = 0.5  # [seconds] of one wait: Ctrl-C that comes just before it begins does not wake it


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return its result; inside a running loop (Jupyter), on one of its own.

    Ctrl-C cancels it.

    Examples
    --------
    >>> async def answer():
    ...     return 42
    >>> async def cell():
    ...     return run_sync(answer())
    >>> run_sync(answer()), asyncio.run(cell())
    (42, 42)
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    context, begun = contextvars.copy_context(), Future[Callable[[], object]]()
    with ThreadPoolExecutor(1, "byzflow-sync") as thread:
        try:
            thread.submit(int).result()  # a thread whose start was interrupted would not be waited for
            done = thread.submit(context.run, _run, work, begun)
            while not wait([done], TURN).done:
                pass
            return done.result()
        except KeyboardInterrupt:  # of the caller, who would else wait for the end
            if begun.cancel():
                work.close()
            else:
                with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended by itself
                    begun.result()()
            raise


def _run(work: Coroutine[Any, Any, T], begun: Future[Callable[[], object]]) -> T:
    """Run `work`, unless that was called off before it began."""
    if not begun.set_running_or_notify_cancel():
        raise asyncio.CancelledError
    return asyncio.run(_stoppable(work, begun))


async def _stoppable(work: Coroutine[Any, Any, T], begun: Future[Callable[[], object]]) -> T:
    """Await `work`, and say how another thread can cancel it."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    begun.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
    return await work
