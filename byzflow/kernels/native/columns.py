"""Loops down the columns of rows where they lie, element-wise over columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from byzflow.kernels.native.addresses import TILE, addresses_of, pointer
from byzflow.kernels.native.loops import loop

__all__ = ("majority", "mean_std", "moments")


_WIDE = 16 * TILE
"""Columns taken at once where little is kept of each: memory is slow to begin with each piece of a row."""


@loop()
def majority(addresses: Any, start: Any, out: Any) -> None:
    """Write the sign of the sum of the signs of each column into `out`; NaN has none. Four rows at a time.

    The columns are those from `start` on of rows where they lie.
    """
    n, votes = addresses.shape[0], np.empty(_WIDE, np.int32)
    for tile in range(0, out.shape[0], _WIDE):
        width = min(_WIDE, out.shape[0] - tile)
        offset = np.uintp((start + tile) * out.itemsize)
        for c in range(width):
            votes[c] = 0
        for i in range(n % 4):
            row = carray(pointer(addresses[i] + offset, out), width)
            for c in range(width):
                votes[c] += _sign(row[c])
        for i in range(n % 4, n, 4):
            a = carray(pointer(addresses[i] + offset, out), width)
            b = carray(pointer(addresses[i + 1] + offset, out), width)
            e = carray(pointer(addresses[i + 2] + offset, out), width)
            g = carray(pointer(addresses[i + 3] + offset, out), width)
            for c in range(width):
                votes[c] += _sign(a[c]) + _sign(b[c]) + _sign(e[c]) + _sign(g[c])
        for c in range(width):
            out[tile + c] = _sign(votes[c])


@loop()
def _sign(value: Any) -> Any:
    return np.int32(value > 0) - np.int32(value < 0)


@loop()
def mean_std(addresses: Any, start: Any, scale: Any, out: Any) -> None:
    """Write mean + scale * population standard deviation of the finite values of each column into `out`.

    The columns are those from `start` on of rows where they lie.
    """
    mean, variance = np.zeros(TILE), np.zeros(TILE)
    for tile in range(0, out.shape[0], TILE):
        target = out[tile : min(tile + TILE, out.shape[0])]
        offset = np.uintp((start + tile) * out.itemsize)
        moments(addresses, offset, target, scale != 0.0, mean, variance)
        for c in range(target.shape[0]):
            target[c] = mean[c] + scale * np.sqrt(variance[c])


@loop()
def moments(addresses: Any, offset: Any, like: Any, spread: Any, mean: Any, variance: Any) -> None:
    """Write the mean of the finite values of each column, and if `spread` their variance.

    There are as many columns as `like` has; `offset` is where they begin in the rows [bytes].
    """
    n, infinite = addresses.shape[0], False
    _add(addresses, offset, like, mean)
    for c in range(like.shape[0]):
        infinite |= mean[c] - mean[c] != 0.0
        mean[c] /= n
    if infinite:
        _moments_of_finite(addresses, offset, like, mean, variance)
    elif spread:
        _add_squares(addresses, offset, like, mean, variance)
        for c in range(like.shape[0]):
            variance[c] /= n


@loop()
def _moments_of_finite(addresses: Any, offset: Any, like: Any, mean: Any, variance: Any) -> None:
    """Do what `moments` does where some column may hold a value that is not finite.

    Columns are summed in the same order, as which come here depends on those beside them.
    """
    n, width = addresses.shape[0], like.shape[0]
    count, kept = np.zeros(width), np.empty((n, width))
    for i in range(n):
        row = carray(pointer(addresses[i] + offset, like), width)
        for c in range(width):
            here = row[c] - row[c] == 0.0
            count[c] += 1.0 if here else 0.0
            kept[i, c] = np.float64(row[c]) if here else 0.0
    _add(addresses_of(kept), np.uintp(0), kept[0], mean)
    for c in range(width):
        count[c] = max(count[c], 1.0)
        mean[c] /= count[c]
    for i in range(n):
        row = carray(pointer(addresses[i] + offset, like), width)
        for c in range(width):
            kept[i, c] = kept[i, c] - mean[c] if row[c] - row[c] == 0.0 else 0.0
    _add_squares(addresses_of(kept), np.uintp(0), kept[0], np.zeros(width), variance)
    for c in range(width):
        variance[c] /= count[c]


@loop()
def _add(addresses: Any, offset: Any, like: Any, total: Any) -> None:
    """Write the sum of rows into `total`: as many columns as `like` has; four rows at a time."""
    n, width = addresses.shape[0], like.shape[0]
    for c in range(width):
        total[c] = 0.0
    for i in range(n % 4):
        row = carray(pointer(addresses[i] + offset, like), width)
        for c in range(width):
            total[c] += np.float64(row[c])
    for i in range(n % 4, n, 4):
        a = carray(pointer(addresses[i] + offset, like), width)
        b = carray(pointer(addresses[i + 1] + offset, like), width)
        e = carray(pointer(addresses[i + 2] + offset, like), width)
        g = carray(pointer(addresses[i + 3] + offset, like), width)
        for c in range(width):
            total[c] += (np.float64(a[c]) + np.float64(b[c])) + (np.float64(e[c]) + np.float64(g[c]))


@loop()
def _add_squares(addresses: Any, offset: Any, like: Any, centre: Any, total: Any) -> None:
    """Write the sum of the squares of rows less `centre` into `total`, likewise."""
    n, width = addresses.shape[0], like.shape[0]
    for c in range(width):
        total[c] = 0.0
    for i in range(n % 4):
        row = carray(pointer(addresses[i] + offset, like), width)
        for c in range(width):
            gap = np.float64(row[c]) - centre[c]
            total[c] += gap * gap
    for i in range(n % 4, n, 4):
        a = carray(pointer(addresses[i] + offset, like), width)
        b = carray(pointer(addresses[i + 1] + offset, like), width)
        e = carray(pointer(addresses[i + 2] + offset, like), width)
        g = carray(pointer(addresses[i + 3] + offset, like), width)
        for c in range(width):
            p, q = np.float64(a[c]) - centre[c], np.float64(b[c]) - centre[c]
            r, s = np.float64(e[c]) - centre[c], np.float64(g[c]) - centre[c]
            total[c] += (p * p + q * q) + (r * r + s * s)
