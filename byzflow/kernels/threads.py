"""The threads that walk over columns: as many as torch may use here, each of which computes alone."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import Any, TypeVar

import torch
from torch import get_num_threads, set_num_threads

from byzflow.kernels.blocks import Span, shards

__all__ = ("one_thread", "parallel")

_PIECES = 4
"""Spans for each thread: a core that is busy elsewhere gets fewer."""

_SMALL = 1 << 17
"""Work below this many matrix elements is not worth a second thread [elements]."""

_LARGE = 1 << 19
"""Work above this many takes longer than to stop and start torch's own threads [elements]."""

_PROCESS = os.getpid()
"""A child that is forked has none of these threads: it would wait for ever for OpenMP's to stop."""

_SOFT = 1
"""`omp_pause_soft` of OpenMP 5.0."""

T = TypeVar("T")


class one_thread:  # noqa: N801  # to be called like a function
    """Let torch use one thread inside the block: BLAS splits work by thread, and bits follow the split."""

    __slots__ = ("before",)

    def __enter__(self) -> None:
        self.before = get_num_threads()
        if self.before > 1:
            set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        if self.before > 1:
            set_num_threads(self.before)


def parallel(task: Callable[[Span], T], n: int, d: int, width: int) -> list[T]:
    """Run `task` on spans that cover d columns, on as many threads as torch may use here.

    Results come in column order. Small work, and work inside a one-thread Dask task, runs in place.
    """
    threads = get_num_threads() if n * d > _SMALL else 1
    if threads == 1 or d <= width:
        with one_thread():
            return [task(Span(0, d))]
    if n * d > _LARGE:
        _pause_openmp()
    spans = shards(d, threads * _PIECES, width)
    results: list[Any] = [None] * len(spans)
    left = iter(range(len(spans)))  # threads take turns at it: a core that is busy elsewhere gets less

    def work() -> None:
        for i in left:
            results[i] = task(spans[i])

    helpers = [_threads(threads - 1, os.getpid()).submit(work) for _ in range(threads - 1)]
    try:
        with one_thread():
            work()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    return results


def _pause_openmp() -> None:
    """Stop the threads that torch keeps for this one: after a product they spin and hold the cores.

    The next torch operation starts them again, in some 50 microseconds each.
    """
    if os.getpid() == _PROCESS and (pause := _openmp_pause()) is not None:
        pause(_SOFT)


@cache
def _openmp_pause() -> Callable[[int], int] | None:
    """Return the `omp_pause_resource_all` that torch is linked to, if it is linked to any."""
    return getattr(ctypes.CDLL(torch._C.__file__), "omp_pause_resource_all", None)


@cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    def pin() -> None:
        # The setting is per thread, but torch hands the last value to threads it has not seen: put it back.
        # A thread is seen when it first asks; set before that, its value would be overwritten then.
        get_num_threads()
        set_num_threads(1)

    pool = ThreadPoolExecutor(count, "byzflow-kernel", initializer=pin)
    everyone = Barrier(count)
    list(pool.map(lambda _: everyone.wait(), range(count)))
    set_num_threads(get_num_threads())
    return pool
