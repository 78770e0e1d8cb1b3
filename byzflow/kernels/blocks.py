"""Canonical column blocks, the fixed summation tree over them, and the threads that walk them.

Sums over columns are always taken block by block and added along one fixed binary tree, so that a
statistic has the same bits whether one thread, many threads or many machines computed its parts.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from threading import Barrier
from typing import Any, NamedTuple, TypeVar

import torch

__all__ = ("BLOCK", "Span", "Tree", "block_width", "blocks", "one_thread", "parallel", "shards", "widest")

BLOCK = 1024
"""The narrowest canonical block [columns]; every canonical width is a power of two times it."""

_WIDEST = 1 << 15
"""The widest [columns]."""

_CELLS = 1 << 20
"""What a canonical block holds at most, unless it is the narrowest: products have a cost for each block, and
four megabytes of float32 still lie in a core's share of the last cache [elements]."""

_SHARES = 8
"""Into how many blocks columns are cut at least, if they are not few: there are threads to share them."""

_PIECES = 4
"""Spans for each thread: a core that is busy elsewhere gets fewer."""

_SMALL = 1 << 17
"""Work below this many matrix elements is not worth a second thread [elements]."""

_LARGE = 1 << 19
"""Work above this many takes longer than to stop and start torch's own threads [elements]."""

_SOFT = 1
"""`omp_pause_soft` of OpenMP 5.0."""

T = TypeVar("T")
Stats = Mapping[str, Any]


class Span(NamedTuple):
    """Columns ``lo : hi`` of the whole matrix."""

    lo: int
    hi: int

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.hi - self.lo


@cache
def widest(d: int) -> int:
    """Return the width of the canonical blocks of few rows of d columns [columns]; a power of two.

    Columns that are cut at multiples of it are cut between canonical blocks, however many rows there are.

    Examples
    --------
    >>> widest(100), widest(65536), widest(10**9)
    (1024, 8192, 32768)
    """
    return min(_WIDEST, max(BLOCK, _power(d // _SHARES)))


@cache
def block_width(n: int, d: int) -> int:
    """Return the width of the canonical blocks of an (n, d) matrix [columns]; a power of two.

    Examples
    --------
    >>> block_width(20, 10**6), block_width(64, 65536), block_width(1000, 65536)
    (32768, 8192, 1024)
    """
    return min(widest(d), max(BLOCK, _power(_CELLS // max(n, 1))))


def _power(x: int) -> int:
    """Return the greatest power of two up to x, or 1."""
    return 1 << max(0, x.bit_length() - 1)


def blocks(span: Span, width: int) -> Iterator[Span]:
    """Cut a span whose start is aligned into canonical blocks.

    Examples
    --------
    >>> list(blocks(Span(0, 5), width=2))
    [Span(lo=0, hi=2), Span(lo=2, hi=4), Span(lo=4, hi=5)]
    """
    return (Span(lo, min(lo + width, span.hi)) for lo in range(span.lo, span.hi, width))


def shards(d: int, k: int, width: int) -> list[Span]:
    """Cut d columns into at most k spans of nearly equal size, aligned to canonical blocks.

    Examples
    --------
    >>> shards(10, 2, width=4)
    [Span(lo=0, hi=8), Span(lo=8, hi=10)]
    >>> shards(0, 3, width=4)
    [Span(lo=0, hi=0)]
    """
    count = -(-d // width)
    k = max(1, min(k, count))
    cuts = [min(d, (i * count + k - 1) // k * width) for i in range(k + 1)]
    return [Span(lo, hi) for lo, hi in pairwise(cuts)]


@dataclass(frozen=True)
class Tree:
    """Additive statistics of a set of canonical blocks, summed along the fixed binary tree.

    A node ``(level, index)`` holds the sum of blocks ``index * 2**level : (index + 1) * 2**level``. Only
    complete siblings are ever added, so the sum does not depend on how the blocks were grouped.
    """

    nodes: Mapping[tuple[int, int], Stats]

    @classmethod
    def over(cls, items: Iterator[tuple[int, Stats]]) -> Tree:
        """Build the tree of ``(block index, statistics)`` pairs."""
        nodes: dict[tuple[int, int], Stats] = {}
        for index, stats in items:
            _carry(nodes, (0, index), stats)
        return cls(nodes)

    @classmethod
    def merge(cls, trees: list[Tree]) -> Tree:
        """Join trees over disjoint sets of blocks.

        Examples
        --------
        >>> left, right = (Tree.over(iter([(i, {"s": 1.0})])) for i in range(2))
        >>> Tree.merge([right, left]).nodes
        {(1, 0): {'s': 2.0}}
        """
        nodes: dict[tuple[int, int], Stats] = {}
        for tree in trees:
            for key, stats in tree.nodes.items():
                _carry(nodes, key, stats)
        return cls(nodes)

    def root(self) -> Stats:
        """Return the sum over all blocks; an empty mapping if there are none."""
        ordered = [self.nodes[key] for key in sorted(self.nodes, key=lambda key: key[1] << key[0])]
        total: Stats = ordered[0] if ordered else {}
        for stats in ordered[1:]:
            total = _add(total, stats)
        return total


def _carry(nodes: dict[tuple[int, int], Stats], key: tuple[int, int], stats: Stats) -> None:
    """Insert one node and add siblings upwards, left before right."""
    if key in nodes:
        raise ValueError(f"Block {key} is in two shards; every canonical block has to lie in one.")
    level, index = key
    while (sibling := (level, index ^ 1)) in nodes:
        other = nodes.pop(sibling)
        stats = _add(other, stats) if index & 1 else _add(stats, other)
        level, index = level + 1, index >> 1
    nodes[level, index] = stats


def _add(a: Stats, b: Stats) -> Stats:
    return {name: a[name] + b[name] for name in a}


class one_thread:  # noqa: N801  # to be called like a function
    """Let torch use one thread inside the block: BLAS splits work by thread, and bits follow the split."""

    __slots__ = ("before",)

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        if self.before > 1:
            torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        if self.before > 1:
            torch.set_num_threads(self.before)


def parallel(task: Callable[[Span], T], n: int, d: int, width: int) -> list[T]:
    """Run `task` on spans that cover d columns, on as many threads as torch may use here.

    Results come in column order. Small work, and work inside a one-thread Dask task, runs in place.
    """
    threads = torch.get_num_threads() if n * d > _SMALL else 1
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

    helpers = [_threads(threads - 1).submit(work) for _ in range(threads - 1)]
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
    if (pause := _openmp_pause()) is not None:
        pause(_SOFT)


@cache
def _openmp_pause() -> Callable[[int], int] | None:
    """Return the `omp_pause_resource_all` that torch is linked to, if it is linked to any."""
    return getattr(ctypes.CDLL(torch._C.__file__), "omp_pause_resource_all", None)


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    def pin() -> None:
        # The setting is per thread, but torch hands the last value to threads it has not seen: put it back.
        # A thread is seen when it first asks; set before that, its value would be overwritten then.
        torch.get_num_threads()
        torch.set_num_threads(1)

    pool = ThreadPoolExecutor(count, "byzflow-kernel", initializer=pin)
    everyone = Barrier(count)
    list(pool.map(lambda _: everyone.wait(), range(count)))
    torch.set_num_threads(torch.get_num_threads())
    return pool
