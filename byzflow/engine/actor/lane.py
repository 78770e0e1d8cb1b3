"""The lane of one object: its calls, one after another in the order given, in threads that are not its own.

An object with ``async`` methods is the exception: it gets a thread with an event loop, where its coroutines
are tasks, so that a waiting method lets the next call in and none can block the worker's own loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, Protocol

from byzflow.engine.actor.calls import Recorder, is_awaitable
from byzflow.engine.actor.crew import Crew, one_openmp_thread

__all__ = ("WORK", "Lane", "Work", "has_coroutines", "stop_all")

Report = Callable[[Any, BaseException | None], None]
"""Takes what a call came to: its value, or its error."""


class Work(Protocol):
    """Numbered calls on objects of lanes, and where their outcomes go. Any thread may call these."""

    @property
    def context(self) -> Context:
        """What the calls see of the context in which they were asked for; each gets a copy."""

    @property
    def is_open(self) -> bool:
        """Whether outcomes are still wanted: else a call is not begun."""

    @property
    def asks(self) -> Sequence[Callable[[Any], Any]]:
        """What makes each of the calls on the object of its lane."""

    def settle(self, index: int, value: Any, error: BaseException | None) -> None:
        """Take what a call came to."""


WORK: ContextVar[weakref.ref[Work] | None] = ContextVar("byzflow_work", default=None)
"""What the call belongs to that runs in this context; set in the context of the work."""


class Lane:
    """One object, and the calls that wait for it; it is made when the lane first moves.

    Parameters
    ----------
    crew : Crew
        Whose threads do the work.
    build : callable
        Makes the object.
    report : callable
        Gets the outcome of `build`, in a thread of the crew.
    """

    __slots__ = ("_crew", "_loop", "_turn", "_waiting", "subject")

    def __init__(self, crew: Crew, build: Callable[[], Any], report: Report) -> None:
        self.subject: Any = None
        self._crew = crew
        self._waiting: deque[tuple[Work, int]] = deque()
        self._turn = threading.Lock()
        self._loop: _Loop | None = None
        self.queue(_Task(partial(self._build, build), report), 0)

    def submit(self, work: Work, index: int) -> None:
        """Queue a call, and have the crew make it."""
        if self.queue(work, index):
            self._crew.run(self.move)

    def queue(self, work: Work, index: int) -> bool:
        """Queue a call; True if the crew has to `move` the lane for it."""
        if self._loop is not None:
            self._loop.post(partial(self._serve, work, index))
            return False
        self._waiting.append((work, index))
        return True

    def move(self) -> None:
        """Do what is queued, in the calling thread, which is one of the crew, unless another is doing it."""
        waiting, turn = self._waiting, self._turn
        while waiting and turn.acquire(False):
            try:
                if waiting:  # whoever had the turn may have done it
                    self._serve(*waiting.popleft())
            finally:
                turn.release()

    def stop(self) -> None:
        """Forget the object after what is queued."""
        self.submit(_Task(self._forget, lambda *outcome: None), 0)

    def _serve(self, work: Work, index: int) -> None:
        if not work.is_open:
            return
        context = work.context.copy()
        value: Any = None
        waits = False
        with Recorder() as record:
            value = context.run(work.asks[index], self.subject)
            waits = is_awaitable(value)
        if waits and self._loop is not None:
            context.run(self._loop.spawn, _settle(value, partial(work.settle, index)))
            return
        if waits:
            with Recorder() as record:  # it may be cancelled by itself, or stop the loop
                value = context.run(asyncio.run, _awaited(value))
        work.settle(index, None if record.error else value, record.error)

    def _build(self, build: Callable[[], Any]) -> None:
        self.subject = build()
        if has_coroutines(self.subject):
            self._loop = _Loop()

    def _forget(self) -> None:
        self.subject = None
        if self._loop is not None:
            self._loop.stop()


def stop_all(lanes: dict[str, Lane], crew: Crew) -> None:
    """Forget all objects after what is queued, and let the threads end."""
    for lane in lanes.values():
        lane.stop()
    lanes.clear()
    crew.close()


class _Task:
    """What a lane has to do for itself, among the calls."""

    is_open = True

    def __init__(self, job: Callable[[], None], report: Report) -> None:
        self.context = copy_context()
        self.asks = (lambda subject: job(),)
        self._report = report

    def settle(self, index: int, value: Any, error: BaseException | None) -> None:
        self._report(value, error)


class _Loop:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        threading.Thread(target=self._main, name="byzflow-loop", daemon=True).start()

    def post(self, job: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(job)

    def spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        self.post(self._loop.stop)  # from another thread, if that was still making the object

    def _main(self) -> None:
        one_openmp_thread()
        self._loop.run_forever()
        self._loop.run_until_complete(self._cancel())
        self._loop.close()

    async def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


async def _settle(value: Any, report: Report) -> None:
    with Recorder() as record:
        value = await value
    report(None if record.error else value, record.error)
    if isinstance(record.error, asyncio.CancelledError):
        raise record.error


def has_coroutines(subject: Any) -> bool:
    """Whether a class, or the class of an object, has ``async`` methods.

    Examples
    --------
    >>> has_coroutines(dict), has_coroutines({})
    (False, False)
    """
    kind = subject if inspect.isclass(subject) else type(subject)
    names = (name for name in dir(kind) if not name.startswith("__"))
    return any(inspect.iscoroutinefunction(inspect.getattr_static(kind, name, None)) for name in names)
