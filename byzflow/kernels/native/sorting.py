"""The columns of n rows, read where they lie and sorted in a tile that the nearest cache holds.

Rows are taken in groups of 16: each is sorted in registers as it is read, and merged with the next in them.
Then come bitonic merges, whose last four layers run in registers again. What would stand behind the last row
is left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from byzflow.kernels.native.addresses import pointer
from byzflow.kernels.native.loops import loop
from byzflow.kernels.native.registers import (
    STRIDE,
    flip_4,
    merge_group,
    merge_half,
    merge_quarter,
    raise_8,
    resort_16,
    resort_32,
    sort_group,
    sort_half,
    sort_most,
    sort_quarter,
    spread_4,
    to_numbers,
    write_greatest,
    write_least,
)
from byzflow.kernels.native.vectors import LINE

__all__ = ("GROUP", "SPARE", "address_of", "new_tile", "open_tile", "pick", "restore", "sort_tile")

GROUP = 16
"""Rows that are sorted in registers."""

SPARE = 4
"""Rows behind those of a tile: the greatest key, an answer, the least key, and the greatest as a number."""


@loop()
def address_of(array: Any) -> Any:
    """Return where an array begins, as a signed number: numba makes floats of sums of mixed ones."""
    return np.int64(array.ctypes.data)


@loop()
def _lined(rows: int, like: Any) -> Any:
    """Return uninitialised rows of a tile, of the dtype of the array `like`, at whole cache lines."""
    columns = STRIDE // like.itemsize
    whole = np.empty(rows * columns + 64 // like.itemsize, like.dtype)
    start = -(address_of(whole) // like.itemsize) % (64 // like.itemsize)
    return whole[start : start + rows * columns].reshape(rows, columns)


@loop()
def new_tile(n: int, like: Any) -> Any:
    """Return a tile for n rows, a table of where rows lie, and room for copies of the rows.

    Behind the rows of the tile stand the greatest keys up to a whole group, and the spare rows.
    """
    groups = (n + GROUP - 1) // GROUP
    tile, copies = _lined(groups * GROUP + SPARE, like), _lined(n, like)
    base = address_of(tile)
    for i in range(n, tile.shape[0]):
        for c in range(0, STRIDE, LINE):
            write_greatest(base + i * STRIDE + c, tile)
    table = np.empty(groups * GROUP, np.int64)
    last = tile.shape[0] - 1
    for c in range(0, STRIDE, LINE):
        to_numbers(base + last * STRIDE + c, tile)
        write_least(base + (last - 1) * STRIDE + c, tile)
    for i in range(table.shape[0]):
        table[i] = base + last * STRIDE
    return tile, table, copies


@loop()
def open_tile(addresses: Any, start: Any, width: Any, copies: Any, table: Any) -> None:
    """Point `table` at columns ``start : start + width`` of rows at addresses, or at copies if they are few.

    Steps read as many columns as a tile has: where a row ends before that, they must not read on.
    """
    for i in range(addresses.shape[0]):
        source = np.int64(addresses[i]) + start * copies.itemsize
        if width < copies.shape[1]:
            row = carray(pointer(np.uintp(source), copies), width)
            for c in range(width):
                copies[i, c] = row[c]
            source = address_of(copies[i])
        table[i] = source


@loop()
def sort_tile(table: Any, first: Any, last: Any, tile: Any, length: Any) -> None:
    """Sort rows ``first : last``, of `length` bytes, into the same rows of the tile, as keys."""
    base = address_of(tile)
    for i in range(first, last, GROUP):
        _take(address_of(table[i:]), last - i, base + i * STRIDE, tile, length)
    rows = (last - first + GROUP - 1) // GROUP * GROUP
    size = GROUP
    while size < rows:
        for i in range(0, rows - size, 2 * size):
            place = base + (first + i) * STRIDE
            if size == GROUP:
                _pair(place, last - first - i - GROUP, tile, length)
            else:
                _merge(place, size, min(2 * size, rows - i), tile, length)
        size *= 2


@loop()
def _take(table: Any, count: Any, place: Any, tile: Any, length: Any) -> None:
    """Sort up to a group of rows as they are read."""
    for c in range(0, length, LINE):
        if count <= GROUP // 4:
            sort_quarter(table, c, place + c, tile)
        elif count <= GROUP // 2:
            sort_half(table, c, place + c, tile)
        elif count <= 3 * GROUP // 4:
            sort_most(table, c, place + c, tile)
        else:
            sort_group(table, c, place + c, tile)


@loop()
def _pair(place: Any, count: Any, tile: Any, length: Any) -> None:
    """Merge a group with the one behind it, which has so many rows or more."""
    for c in range(place, place + length, LINE):
        if count <= GROUP // 4:
            merge_quarter((c, c + GROUP * STRIDE), tile)
        elif count <= GROUP // 2:
            merge_half((c, c + GROUP * STRIDE), tile)
        else:
            merge_group((c, c + GROUP * STRIDE), tile)


@loop()
def _merge(place: Any, size: Any, rows: Any, tile: Any, length: Any) -> None:
    """Merge the first `size` rows, two groups at least, with the others, at most as many; both are sorted."""
    _four(place, size // 2, rows, True, tile, length)
    size //= 4
    while size > GROUP:
        for i in range(0, rows, 2 * size):
            _four(place + i * STRIDE, size // 2, rows - i, False, tile, length)
        size //= 4
    pair = size == GROUP
    for i in range(0, rows, 2 * GROUP if pair else GROUP):
        for c in range(place + i * STRIDE, place + i * STRIDE + length, LINE):
            if pair and i + GROUP < rows:
                resort_32((c, c + GROUP * STRIDE), tile)
            else:
                resort_16((c,), tile)


@loop()
def _four(place: Any, quarter: Any, rows: Any, flip: Any, tile: Any, length: Any) -> None:
    """Run two layers of a merge: the first two of ``4 quarter`` rows, or two further ones."""
    pad = address_of(tile) + (tile.shape[0] - SPARE) * STRIDE
    for i in range(min(quarter, rows)):
        j, k, m = i + quarter, i + 2 * quarter, i + 3 * quarter
        if flip:
            k, m = 3 * quarter - 1 - i, 4 * quarter - 1 - i
        a = place + i * STRIDE
        b = place + j * STRIDE if j < rows else pad
        e = place + k * STRIDE if k < rows else pad
        g = place + m * STRIDE if m < rows else pad
        for c in range(0, length, LINE):
            if flip:
                flip_4((a + c, b + c, e + c, g + c), tile)
            else:
                spread_4((a + c, b + c, e + c, g + c), tile)


@loop()
def pick(half: Any, n: Any, rank: Any, tile: Any, length: Any) -> Any:
    """Find one rank of two sorted lists, rows ``:half`` and ``half:n``; return the row that gets its key.

    It is the greatest of ``min(a_i, b_rank-i)``, where what would stand behind a list is greater than all.
    The first list is longer than `rank`, which is 7 at least.
    """
    base = address_of(tile)
    out = tile.shape[0] - SPARE + 1
    room = (n - half + GROUP - 1) // GROUP * GROUP
    best = rank - room if rank >= room else out + 1
    for i in range(max(0, rank - room + 1), rank + 1, 8):
        i = min(i, rank - 7)
        a, b = base + i * STRIDE, base + (half + rank - 7 - i) * STRIDE
        for c in range(0, length, LINE):
            raise_8((base + best * STRIDE + c, a + c, b + c, base + out * STRIDE + c), tile)
        best = out
    return out


@loop()
def restore(tile: Any, first: Any, last: Any, length: Any) -> None:
    """Turn the keys in rows ``first : last`` of a tile into the numbers they stand for."""
    base = address_of(tile)
    for i in range(first, last):
        for c in range(base + i * STRIDE, base + i * STRIDE + length, LINE):
            to_numbers(c, tile)
