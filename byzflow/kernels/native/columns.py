"""Loops down the columns of one block: means, element-wise over columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from byzflow.kernels.native.addresses import TILE, part_of

__all__ = ("mean_around", "mean_std", "row_mean")


@njit(nogil=True, cache=True)
def row_mean(block: Any, first: Any, last: Any, out: Any) -> None:
    """Write the mean of rows ``first : last`` of `block` into `out`, summed in float64 in row order."""
    total = np.empty(TILE)
    scale = 1.0 / (last - first)
    for tile in range(0, out.shape[0], TILE):
        width = min(TILE, out.shape[0] - tile)
        for c in range(width):
            total[c] = 0.0
        for i in range(first, last):
            row = part_of(block, i, tile, tile + width)
            for c in range(width):
                total[c] += row[c]
        target = out[tile : tile + width]
        for c in range(width):
            target[c] = total[c] * scale


@njit(nogil=True, cache=True)
def mean_around(block: Any, centre: Any, keep: Any, out: Any) -> None:
    """Average, in every sorted column, the `keep` values nearest `centre`; ties keep the lower value.

    In a sorted column the nearest values are a window; it starts at the lowest k for which the value that
    would leave on the left is no farther than the one that would come in on the right.
    """
    n = block.shape[0]
    first = np.empty(TILE, np.int32)
    total = np.empty(TILE)
    scale = 1.0 / keep
    for tile in range(0, out.shape[0], TILE):
        width = min(TILE, out.shape[0] - tile)
        middle = centre[tile : tile + width]
        for c in range(width):
            first[c] = 0
            total[c] = 0.0
        for k in range(n - keep):
            left = part_of(block, k, tile, tile + width)
            right = part_of(block, k + keep, tile, tile + width)
            for c in range(width):
                moves = (first[c] == k) & (middle[c] - left[c] > right[c] - middle[c])
                first[c] = k + 1 if moves else first[c]
        for i in range(n):
            row = part_of(block, i, tile, tile + width)
            for c in range(width):
                inside = (first[c] <= i) & (i < first[c] + keep)
                total[c] += np.float64(row[c]) if inside else 0.0
        target = out[tile : tile + width]
        for c in range(width):
            target[c] = total[c] * scale


@njit(nogil=True, cache=True)
def mean_std(block: Any, scale: Any, out: Any) -> None:
    """Write, per column, mean + scale * population standard deviation of the finite values into `out`."""
    n = block.shape[0]
    mean = np.empty(TILE)
    square = np.empty(TILE)
    for tile in range(0, out.shape[0], TILE):
        width = min(TILE, out.shape[0] - tile)
        target = out[tile : tile + width]
        for c in range(width):
            mean[c] = 0.0
            square[c] = 0.0
        for i in range(n):
            row = part_of(block, i, tile, tile + width)
            for c in range(width):
                mean[c] += np.float64(row[c])
        infinite = False
        for c in range(width):
            infinite |= mean[c] - mean[c] != 0.0
            mean[c] /= n
        if infinite:
            _mean_std_of_finite(block, tile, scale, target)
            continue
        for i in range(n):
            row = part_of(block, i, tile, tile + width)
            for c in range(width):
                gap = np.float64(row[c]) - mean[c]
                square[c] += gap * gap
        for c in range(width):
            target[c] = mean[c] + scale * np.sqrt(square[c] / n)


@njit(nogil=True, cache=True)
def _mean_std_of_finite(block: Any, tile: Any, scale: Any, out: Any) -> None:
    """Do one tile of `mean_std` in which some column may hold a value that is not finite."""
    n, width = block.shape[0], out.shape[0]
    count = np.zeros(width)
    mean = np.zeros(width)
    square = np.zeros(width)
    for i in range(n):
        row = part_of(block, i, tile, tile + width)
        for c in range(width):
            value = np.float64(row[c])
            here = value - value == 0.0
            count[c] += 1.0 if here else 0.0
            mean[c] += value if here else 0.0
    for c in range(width):
        mean[c] /= max(count[c], 1.0)
    for i in range(n):
        row = part_of(block, i, tile, tile + width)
        for c in range(width):
            value = np.float64(row[c])
            gap = value - mean[c] if value - value == 0.0 else 0.0
            square[c] += gap * gap
    for c in range(width):
        out[c] = mean[c] + scale * np.sqrt(square[c] / max(count[c], 1.0))
