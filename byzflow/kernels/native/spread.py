"""How far rows lie apart, read once where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from byzflow.kernels.native.addresses import FAST, TILE, pointer
from byzflow.kernels.native.loops import loop

__all__ = ("spread",)


@loop(fastmath=FAST)
def spread(addresses: Any, start: Any, width: Any, like: Any) -> Any:
    """Return Σ ‖xᵢ - x̄‖² over columns ``start : start + width`` of rows of `like`'s dtype.

    It is NaN if one of several rows is not finite there.
    """
    total, sums, n = 0.0, np.empty(TILE), addresses.shape[0]
    for tile in range(0, width, TILE):
        columns = min(TILE, width - tile)
        offset = np.uintp((start + tile) * like.itemsize)
        # Digits are lost around a far origin, not around a row; the mean's part goes off at the end.
        origin = carray(pointer(addresses[0] + offset, like), columns)
        for c in range(columns):
            sums[c] = 0.0
        for i in range(1, n):
            row = carray(pointer(addresses[i] + offset, like), columns)
            for c in range(columns):
                gap = np.float64(row[c]) - np.float64(origin[c])
                sums[c] += gap
                total += gap * gap
        for c in range(columns):
            total -= sums[c] * sums[c] / n
    return total
