"""Additive distances of all rows from the mean of the rows, and along a direction that follows from them."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np
from numba import carray

from byzflow.kernels import columns
from byzflow.kernels.blocks import Span
from byzflow.kernels.host import to_host
from byzflow.kernels.native.addresses import FAST, TILE, pointer
from byzflow.kernels.native.columns import moments
from byzflow.kernels.native.loops import loop
from byzflow.kernels.rows import Array, Rows

__all__ = ("DIRECTIONS", "around_block", "direction_of")

DIRECTIONS = ("std", "sign", "unit")
"""The standard deviation of every column, the sign of its mean, or the mean itself."""


def direction_of(name: str, mean: Array, deviation: Array) -> Array:
    """Return the direction, (w,), of that name.

    Examples
    --------
    >>> direction_of("sign", np.array([-2.0]), np.array([5.0]))
    array([-1.])
    """
    if name == "std":
        return deviation
    return array_api_compat.array_namespace(mean).sign(mean) if name == "sign" else mean


def around_block(rows: Rows, span: Span, direction: str) -> dict[str, np.ndarray]:
    """Return ``{"from_mean": (n,), "along": (n,), "sq_length": ()}`` over the span, in float64.

    With the mean m of the finite values of every column and the direction p, ``|m - x_i|**2``,
    ``<m - x_i, p>`` and ``|p|**2``; of a row that is not finite, nobody knows what.

    Parameters
    ----------
    rows : Rows
        The n rows.
    span : Span
        One canonical block.
    direction : str
        One of `DIRECTIONS`.

    Examples
    --------
    >>> from byzflow.kernels.intake import as_rows
    >>> stats = around_block(as_rows([np.array([1.0]), np.array([3.0])]), Span(0, 1), "unit")
    >>> stats["from_mean"], stats["along"], float(stats["sq_length"])
    (array([1., 1.]), array([ 2., -2.]), 4.0)
    """
    if rows.addresses is not None:
        from_mean, along = np.zeros(rows.n), np.zeros(rows.n)
        like, kind = np.empty(span.width, rows.dtype), DIRECTIONS.index(direction)
        length = _around(rows.addresses, span.lo - rows.offset, like, kind, from_mean, along)
        return {"from_mean": from_mean, "along": along, "sq_length": np.asarray(length)}
    X = rows.read(span)
    xp = array_api_compat.array_namespace(X)
    X = xp.astype(X, xp.float64)
    mean = columns.mean_std(X, 0.0)
    away = mean - X
    p = direction_of(direction, mean, columns.mean_std(away, 1.0) - columns.mean_std(away, 0.0))
    return {
        "from_mean": to_host(xp.sum(away * away, axis=1)),
        "along": to_host(xp.sum(away * p, axis=1)),
        "sq_length": to_host(xp.sum(p * p)),
    }


@loop()
def _around(addresses: Any, start: Any, like: Any, kind: Any, from_mean: Any, along: Any) -> float:
    """Add to `from_mean` and `along` as many columns from `start` on as `like` has; return their |p|**2."""
    mean, p = np.zeros(TILE), np.zeros(TILE)
    length = 0.0
    for tile in range(0, like.shape[0], TILE):
        part = like[tile : min(tile + TILE, like.shape[0])]
        width, offset = part.shape[0], np.uintp((start + tile) * like.itemsize)
        moments(addresses, offset, part, kind == 0, mean, p)
        for c in range(width):
            p[c] = np.sqrt(p[c]) if kind == 0 else np.sign(mean[c]) if kind == 1 else mean[c]
            length += p[c] * p[c]
        for i in range(addresses.shape[0]):
            square, product = _away(carray(pointer(addresses[i] + offset, like), width), mean, p)
            from_mean[i] += square
            along[i] += product
    return length


@loop(fastmath=FAST)
def _away(row: Any, mean: Any, p: Any) -> tuple[float, float]:
    square, product = 0.0, 0.0
    for c in range(row.shape[0]):
        gap = mean[c] - np.float64(row[c])
        square += gap * gap
        product += gap * p[c]
    return square, product
