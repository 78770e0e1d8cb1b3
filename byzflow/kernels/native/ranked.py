"""What column-wise rules need of sorted columns: the rows are read where they lie, tile by tile."""

from __future__ import annotations

from typing import Any

from byzflow.kernels.native.averages import WIDE, mean_around, mean_of_ranks
from byzflow.kernels.native.loops import loop
from byzflow.kernels.native.registers import STRIDE
from byzflow.kernels.native.sorting import (
    GROUP,
    SPARE,
    address_of,
    new_tile,
    open_tile,
    pick,
    restore,
    sort_tile,
)

__all__ = ("ranked_means",)


@loop()
def ranked_means(addresses: Any, start: Any, first: Any, last: Any, keep: Any, out: Any) -> None:
    """Write the mean of ranks ``first : last`` of columns ``start : start + len(out)`` into `out`.

    If `keep` is not 0, it is the mean of the `keep` values that are nearest that one. A single rank is a
    middle one, and is written as it is.
    """
    n = addresses.shape[0]
    tile, table, copies = new_tile(n, out)
    base, answer = address_of(tile), tile.shape[0] - SPARE + 1
    lone = last - first == 1
    groups = (n + GROUP - 1) // GROUP
    half = (groups + 1) // 2 * GROUP if lone and keep == 0 else groups * GROUP
    for at in range(0, out.shape[0], tile.shape[1]):
        part = out[at : at + tile.shape[1]]
        length = part.shape[0] * out.itemsize
        open_tile(addresses, start + at, part.shape[0], copies, table)
        for i in range(0, n, half):
            sort_tile(table, i, min(i + half, n), tile, length)
        row = answer
        if keep > 0:
            for c in range(0, length, WIDE):
                mean_around(base + c, (first, last), n, keep, base + answer * STRIDE + c, tile)
        elif lone:
            row = pick(half, n, first, tile, length) if half < n else first
            restore(tile, row, row + 1, length)
        else:
            for c in range(0, length, WIDE):
                mean_of_ranks(base + c, first, last, base + answer * STRIDE + c, tile)
        result = tile[row]
        for c in range(part.shape[0]):
            part[c] = result[c]
