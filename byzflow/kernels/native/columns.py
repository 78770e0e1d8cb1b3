"""Loops down the columns of one block, element-wise over columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from byzflow.kernels.native.addresses import TILE, part_of
from byzflow.kernels.native.loops import loop

__all__ = ("mean_std",)


@loop()
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


@loop()
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
