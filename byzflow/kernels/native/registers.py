"""Steps of a sort, each of which holds some rows of a tile in registers, as no loop over columns can ask for.

A tile is some columns of all rows, the rows `STRIDE` bytes apart, small enough for the nearest cache; it
holds keys. A step loads a vector of each of its rows, compares and exchanges, and stores the vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from byzflow.kernels.native.vectors import Vectors

__all__ = (
    "STRIDE",
    "flip_4",
    "merge_group",
    "merge_half",
    "merge_quarter",
    "raise_8",
    "resort_16",
    "resort_32",
    "sort_group",
    "sort_half",
    "sort_most",
    "sort_quarter",
    "spread_4",
    "to_numbers",
    "write_greatest",
    "write_least",
)

STRIDE = 512
"""How far apart the rows of a tile lie [bytes]."""

_Pairs = Sequence[tuple[int, int]]


def _batcher(n: int) -> _Pairs:
    """Return the comparators of Batcher's odd-even merge sort of n values."""
    pairs: list[tuple[int, int]] = []
    p = 1
    while p < n:
        pairs += _odd_even(n, p)
        p *= 2
    return pairs


def _odd_even(n: int, p: int) -> list[tuple[int, int]]:
    """Return those that merge each p sorted values of n with the p behind them."""
    pairs = []
    k = p
    while k:
        for j in range(k % p, n - k, 2 * k):
            near = range(j, min(j + k, n - k))
            pairs += [(i, i + k) for i in near if i // (2 * p) == (i + k) // (2 * p)]
        k //= 2
    return pairs


def _bitonic(n: int, start: int = 0) -> list[tuple[int, int]]:
    """Return the comparators that sort n values from `start` on that rise and then fall, or the reverse."""
    pairs = []
    k = n // 2
    while k:
        pairs += [(start + i, start + i + k) for i in range(n) if not i & k]
        k //= 2
    return pairs


def _intake(n: int) -> Any:
    """Return a step that sorts n rows, read at `offset` from addresses in a table, into a tile as keys."""

    @intrinsic
    def step(typingctx: Any, table: Any, offset: Any, tile: Any, like: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vectors = Vectors(context, builder, like)
            addresses = builder.inttoptr(args[0], args[0].type.as_pointer())
            values = []
            for i in range(n):
                row = builder.load(builder.gep(addresses, [ir.Constant(args[0].type, i)]))
                place = builder.add(row, args[1])
                vectors.prefetch(place, STRIDE)
                values.append(vectors.key(vectors.load(vectors.at(place), vectors.size)))
            vectors.exchange(values, _batcher(n))
            for i, value in enumerate(values):
                vectors.store(value, vectors.at(args[2], i * STRIDE))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64, like), codegen

    return step


def _step(rows: Sequence[tuple[int, int]], pairs: _Pairs) -> Any:
    """Return a step on rows in place, given as (which of its addresses, how many rows further down)."""

    @intrinsic
    def step(typingctx: Any, places: Any, like: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vectors = Vectors(context, builder, like)
            at = [vectors.at(builder.extract_value(args[0], k), i * STRIDE) for k, i in rows]
            values = [vectors.load(place) for place in at]
            vectors.exchange(values, pairs)
            for value, place in zip(values, at, strict=True):
                vectors.store(value, place)
            return context.get_dummy_value()

        return types.void(types.UniTuple(types.int64, 1 + max(rows)[0]), like), codegen

    return step


def _merge(m: int) -> Any:
    """Return a step that merges a group of 16 sorted rows with m in another place."""
    return _step(_GROUPS[: 16 + m], _odd_even(16 + m, 16))


def _write(make: Any) -> Any:
    """Return a step on one vector of a tile, which writes what `make` makes of (vectors, the old one)."""

    @intrinsic
    def step(typingctx: Any, place: Any, like: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vectors = Vectors(context, builder, like)
            at = vectors.at(args[0])
            vectors.store(make(vectors, vectors.load(at)), at)
            return context.get_dummy_value()

        return types.void(types.int64, like), codegen

    return step


@intrinsic
def raise_8(typingctx: Any, places: Any, like: Any) -> Any:
    """Write the greatest of the first place and ``min(a_i, b_7-i)``, 8 rows a and 8 rows b, to the last."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = Vectors(context, builder, like)
        best, a, b, out = (builder.extract_value(args[0], k) for k in range(4))
        best = vectors.load(vectors.at(best))
        for i in range(8):
            values = [best, *(vectors.load(vectors.at(x, k * STRIDE)) for x, k in ((a, i), (b, 7 - i)))]
            vectors.exchange(values, [(1, 2), (1, 0)])
            best = values[0]
        vectors.store(best, vectors.at(out))
        return context.get_dummy_value()

    return types.void(types.UniTuple(types.int64, 4), like), codegen


_GROUP = [(0, i) for i in range(16)]
_GROUPS = [*_GROUP, *((1, i) for i in range(16))]
_RESORT = [*_bitonic(16), *_bitonic(16, 16)]
_FOUR = [(k, 0) for k in range(4)]

sort_group, sort_most, sort_half, sort_quarter = map(_intake, (16, 12, 8, 4))

merge_group, merge_half, merge_quarter = map(_merge, (16, 8, 4))

resort_16 = _step(_GROUP, _bitonic(16))
"""Sort 16 rows that rise and then fall, or the reverse."""

resort_32 = _step(_GROUPS, [*((i, 16 + i) for i in range(16)), *_RESORT])
"""The same with 32 rows, in two groups of 16."""

flip_4 = _step(_FOUR, [(0, 3), (1, 2), (0, 1), (2, 3)])
"""The first two layers of a merge, on four rows."""

spread_4 = _step(_FOUR, [(0, 2), (1, 3), (0, 1), (2, 3)])
"""Any two further layers."""

to_numbers = _write(Vectors.number)
"""Turn keys into the numbers they stand for."""

write_least = _write(lambda vectors, _: vectors.all(-1 << (8 * vectors.size - 1)))
write_greatest = _write(lambda vectors, _: vectors.all((1 << (8 * vectors.size - 1)) - 1))
