"""Threads that serve the objects of one host: few while calls are short, more when one hangs.

A thread per object costs a hand-over of the interpreter per call, which for a thousand nodes is more than
the calls themselves. So a few threads go from lane to lane. One more stands by: when a lane has waited for
a moment and no call has ended, the one standing by goes to work too, and another takes its place.
Hence no object can hold up the others, however long it takes.

Where calls are brief, one thread makes them all: torch lets go of the interpreter in every operation, and
several threads that are at it hand it to and fro, which takes many times as long as the calls.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any

__all__ = ("Crew", "one_openmp_thread")

PATIENCE = 0.05  # [seconds] without a finished call until one more thread helps
SOON = 0.002  # [seconds] the same, while some of the threads that stay are left out
BRIEF = 1e-4  # [seconds] up to which calls take longer in several threads than in one
LONG = 5e-4  # [seconds] that calls have taken lately, from which on no thread is left out at first


class Crew:
    """A pool of daemon threads that grows when its calls do not end.

    Parameters
    ----------
    name : str
        Prefix of the threads' names.
    size : int
        Threads that stay.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._paused = threading.Condition(self._lock)
        self._numbers = itertools.count()
        self._threads = 0
        self._idle = 0
        self._taken = 0
        self._pace = 2.0 * LONG  # what calls have taken lately [seconds]
        self._forget()
        self._is_open = True
        self._has_watch = self._is_calm = False

    def __len__(self) -> int:
        return self._threads - self._has_watch

    def run(self, *works: Callable[[], None]) -> None:
        """Have each of `works` done in one of the threads; first come, first served."""
        with self._lock:
            if not self._waiting:
                self._forget()
            self._waiting.extend(works)
            most = self._size if self._pace > LONG else 1
            ready = min(self._idle, most)
            self._arrived.notify(ready)
            short = len(self._waiting) - ready
            for _ in range(min(short, most - ready, self._size - self._threads)):
                self._start(self._work)
                short -= 1
            if short > 0 and not self._has_watch:
                self._has_watch = True
                self._start(self._watch)
            elif short > 0 and self._is_calm:
                self._paused.notify()

    def close(self) -> None:
        """Let the threads end, each after what it is doing."""
        with self._lock:
            self._is_open = False
            self._waiting.clear()
            self._arrived.notify_all()
            self._paused.notify_all()

    def _forget(self) -> None:
        """Forget what is known of the calls of which none waits any more."""
        self._lengthy = 0  # how many in a row were not brief
        self._alone = math.inf  # what they took in one thread [seconds]
        self._share = 0.0  # what a call takes of all threads' time when there are several [seconds]

    def _start(self, target: Callable[[], None]) -> None:
        self._threads += 1
        name = f"byzflow-{self._name}-{next(self._numbers)}"
        threading.Thread(target=target, name=name, daemon=True).start()

    def _work(self) -> None:
        is_limited, waiting = False, self._waiting
        while waiting or not self._is_done():
            try:
                work = waiting.popleft()  # not under the lock: that costs as much as a short call
            except IndexError:  # another thread was quicker
                continue
            self._taken += 1
            is_limited = is_limited or one_openmp_thread()
            begin = perf_counter()
            work()
            seconds = perf_counter() - begin
            if seconds <= BRIEF:
                self._pace *= 0.9
                self._lengthy = 0
            elif self._is_crowded(seconds):
                self._step_back()

    def _is_crowded(self, seconds: float) -> bool:
        """Note how long a call took that was not brief; return whether threads hinder more than they help.

        After two such calls in a row in one thread, the others are asked to help, once.
        """
        count = self._busy
        share = seconds / max(1, count)
        self._pace = 0.9 * self._pace + 0.1 * share
        if count > 1:
            self._share = 0.9 * self._share + 0.1 * share
            return self._share > self._alone
        self._lengthy += 1
        self._alone = min(self._alone, seconds) if self._lengthy > 1 else seconds
        if self._lengthy > 1 and self._share == 0.0 and self._waiting and self._has_more:
            with self._lock:
                self._ask_all()
        return False

    @property
    def _busy(self) -> int:
        return len(self) - self._idle

    @property
    def _has_more(self) -> bool:
        """Whether there are threads, or may be, that are left out."""
        return self._idle > 0 or len(self) < self._size

    def _ask_all(self) -> None:
        """Have all threads help, those too that have yet to start. Under the lock."""
        self._arrived.notify(self._idle)
        for _ in range(min(len(self._waiting) - self._idle, self._size - len(self))):
            self._start(self._work)

    def _step_back(self) -> None:
        """Wait to be asked again, unless nobody else is there, or the calling thread is not to stay."""
        with self._lock:
            if self._is_open and self._busy > 1 and len(self) <= self._size:
                self._idle += 1
                self._arrived.wait()
                self._idle -= 1

    def _is_done(self) -> bool:
        """Wait for work, unless the calling thread is to end."""
        with self._lock:
            while not self._waiting:
                if not self._is_open or len(self) > self._size:
                    self._threads -= 1
                    return True
                self._idle += 1
                self._arrived.wait()
                self._idle -= 1
        return False

    def _watch(self) -> None:
        """Stand by while the crew is open; go to work where nothing moves, and let another stand by."""
        with self._lock:
            while self._is_open:
                self._is_calm = not self._waiting
                taken = self._taken
                has_more = self._has_more
                self._paused.wait(None if self._is_calm else SOON if has_more else PATIENCE)
                if not self._waiting or self._taken != taken or self._is_calm:
                    continue
                if not has_more:
                    self._start(self._watch)
                    break
                self._ask_all()
            else:
                self._has_watch = False
                self._threads -= 1
                return
        self._work()


def one_openmp_thread() -> bool:
    """Give the calling thread one OpenMP thread, and one of MKL's, once torch is there; others keep theirs.

    With several objects computing side by side, one thread each is faster, and the bits do not depend on
    the number of cores.
    """
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "get_num_threads"):  # absent, or another thread is still importing it
        return False
    torch.get_num_threads()  # torch sets a thread's count on first use, so this has to come first
    _openmp().limit(limits=1)
    if (limit := _mkl_limit(torch._C.__file__)) is not None:
        limit(1)
    return True


@functools.cache
def _mkl_limit(path: str) -> Callable[[int], int] | None:
    """Return what sets how many threads the MKL that is linked into torch uses for the calling thread.

    Torch sets it in threads that it has not seen, once anybody has called `torch.set_num_threads`; then MKL
    no longer asks OpenMP.
    """
    return getattr(ctypes.CDLL(path), "MKL_Set_Num_Threads_Local", None)


@functools.cache
def _openmp() -> Any:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # it has no stubs

    return ThreadpoolController().select(user_api="openmp")
