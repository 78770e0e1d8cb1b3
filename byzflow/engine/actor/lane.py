"""The lane of one object: its calls, one after another in the order given, in threads that are not its own.

An object with ``async`` methods is the exception: it gets a thread with an event loop, where its coroutines
are tasks, so that a waiting method lets the next call in and none can block the worker's own loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from byzflow.engine.actor.calls import Outcome, Recorder
from byzflow.engine.actor.crew import Crew, one_openmp_thread

__all__ = ("Lane",)

Report = Callable[[Outcome], None]


class Lane:
    """One object, and the calls that wait for it.

    Parameters
    ----------
    crew : Crew
        Whose threads do the work.
    build : callable
        Makes the object.
    report : callable
        Gets the outcome of `build`, in a thread of the crew.
    """

    def __init__(self, crew: Crew, build: Callable[[], Any], report: Report) -> None:
        self.subject: Any = None
        self._crew = crew
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._is_moving = False
        self._loop: _Loop | None = None
        context = contextvars.copy_context()
        self._post(lambda: context.run(self._build, build, report))

    def submit(self, work: Callable[[], Any], report: Report, wanted: Callable[[], bool]) -> None:
        """Queue `work`; `report` gets its outcome, unless that is no longer `wanted` when its turn comes."""
        context = contextvars.copy_context()
        self._post(lambda: context.run(self._serve, work, report, wanted))

    def stop(self) -> None:
        """Forget the object after what is queued."""
        self._post(self._forget)

    def _post(self, job: Callable[[], None]) -> None:
        if self._loop is not None:
            self._loop.post(job)
            return
        with self._lock:
            self._waiting.append(job)
            if self._is_moving:
                return
            self._is_moving = True
        self._crew.run(self._move)

    def _move(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_moving = False
                    return
                job = self._waiting.popleft()
            job()

    def _build(self, build: Callable[[], Any], report: Report) -> None:
        with Recorder() as record:
            self.subject = build()
        if record.error is None and _is_async(self.subject):
            self._loop = _Loop()
        report(Outcome(error=record.error, seconds=record.seconds))

    def _serve(self, work: Callable[[], Any], report: Report, wanted: Callable[[], bool]) -> None:
        if not wanted():
            return
        value: Any = None
        with Recorder() as record:
            value = work()
        if record.error is None and inspect.isawaitable(value):
            if self._loop is not None:
                self._loop.spawn(_settle(value, report))
            else:
                asyncio.run(_settle(value, report))
            return
        report(Outcome.of(value, record))

    def _forget(self) -> None:
        self.subject = None
        if self._loop is not None:
            self._loop.stop()


class _Loop:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        threading.Thread(target=self._main, name="byzflow-loop", daemon=True).start()

    def post(self, job: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(job)

    def spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        self._loop.stop()

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


async def _settle(value: Any, report: Report) -> None:
    with Recorder() as record:
        value = await value
    report(Outcome.of(value, record))
    if isinstance(record.error, asyncio.CancelledError):
        raise record.error


def _is_async(subject: Any) -> bool:
    kind = subject if inspect.isclass(subject) else type(subject)
    return any(
        inspect.iscoroutinefunction(inspect.getattr_static(kind, name, None))
        for name in dir(kind)
        if not name.startswith("__")
    )
