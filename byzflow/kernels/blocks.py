"""Canonical column blocks, and the fixed summation tree over them.

Sums over columns are always taken block by block and added along one fixed binary tree, so that a
statistic has the same bits whether one thread, many threads or many machines computed its parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

__all__ = ("BLOCK", "Span", "Tree", "block_width", "blocks", "shards", "sole_block", "widest")

BLOCK = 1024
"""The narrowest canonical block [columns]; every canonical width is a power of two times it."""

_WIDEST = 1 << 15
"""The widest [columns]."""

_CELLS = 1 << 20
"""What a canonical block holds at most, unless it is the narrowest: products have a cost for each block, and
four megabytes of float32 still lie in a core's share of the last cache [elements]."""

_SHARES = 8
"""Into how many blocks columns are cut at least, if they are not few: there are threads to share them."""

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


@cache
def sole_block(d: int, width: int) -> Span | None:
    """Return all d columns if they are one canonical block of at most `width`, else None.

    Examples
    --------
    >>> sole_block(3, 1024), sole_block(0, 1024)
    (Span(lo=0, hi=3), None)
    """
    return Span(0, d) if 0 < d <= width else None


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
