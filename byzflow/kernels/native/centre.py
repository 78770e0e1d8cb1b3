"""Loops over one block before its Gram matrix is taken: its norms, and the choice of an origin."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from byzflow.kernels.native.addresses import FAST, TILE, part_of, pointer, squared_norm
from byzflow.kernels.native.loops import loop
from byzflow.kernels.native.order import nth

__all__ = (
    "centre_rows",
    "gather_centred",
    "is_finite",
    "marked_norms",
    "pick_centre",
    "squared_norms",
)


@loop(fastmath=FAST)
def squared_norms(block: Any, out: Any) -> None:
    """Write the squared norm of every row of `block` into `out` (float64; inf or NaN if a value is)."""
    for i in range(block.shape[0]):
        out[i] = squared_norm(part_of(block, i, 0, block.shape[1]))


@loop()
def is_finite(block: Any) -> bool:
    """Whether `block` holds neither NaN nor infinities."""
    rows, width = block.shape
    if block.strides[0] == width * block.itemsize:
        rows, width = 1, rows * width
    for i in range(rows):
        row = part_of(block, i, 0, width)
        finite = True
        for c in range(row.shape[0]):
            finite &= abs(row[c]) < np.inf
        if not finite:
            return False
    return True


@loop(fastmath=FAST)
def pick_centre(block: Any, finite: Any) -> Any:
    """Return the row, of about four candidates, that lies nearest to most rows on 16 sampled columns."""
    n, columns = block.shape[0], block.shape[1]
    step = max(1, columns // 16)
    stride = max(1, n // 4)
    distances = np.empty(n)
    best, best_score = 0, np.inf
    for j in range(0, n, stride):
        if not finite[j]:
            continue
        count = 0
        for i in range(n):
            if finite[i]:
                total = 0.0
                for c in range(0, columns, step):
                    gap = np.float64(block[i, c]) - np.float64(block[j, c])
                    total += gap * gap
                distances[count] = total
                count += 1
        score = nth(distances[:count], count // 2)
        if score < best_score:
            best, best_score = j, score
    if best_score == np.inf:
        for j in range(n):
            if finite[j]:
                return j
    return best


@loop()
def marked_norms(block: Any, norms: Any) -> None:
    """Write the squared norms of the first ``len(norms)`` rows; +inf for a row that is not finite."""
    squared_norms(block[: norms.shape[0]], norms)
    for i in range(norms.shape[0]):
        if not np.isfinite(norms[i]):
            norms[i] = np.inf


@loop(fastmath=FAST)
def _dot(a: Any, b: Any) -> Any:
    total = 0.0
    for c in range(a.shape[0]):
        total += np.float64(a[c]) * np.float64(b[c])
    return total


@loop(fastmath=FAST)
def _norm_and_dot(row: Any, other: Any) -> tuple[float, float]:
    """Return the squared norm of a row and its inner product with another, of float64: it is widened once."""
    norm, total = 0.0, 0.0
    for c in range(row.shape[0]):
        value = np.float64(row[c])
        norm += value * value
        total += value * other[c]
    return norm, total


@loop()
def centre_rows(block: Any, norms: Any, to_zero: Any) -> None:
    """Move the origin of the whole block to one of its rows; `norms` come from `marked_norms`.

    A row that is not finite becomes 0 before the move and -origin after it. `to_zero`, if it is not empty,
    receives the inner product of every moved row with the moved zero, and last the latter's squared norm.
    """
    n = norms.shape[0]
    finite = np.isfinite(norms)
    for i in range(n):
        if not finite[i]:
            block[i] = 0
    origin = block[pick_centre(block[:n], finite)].copy()
    to_zero[:] = 0.0
    for tile in range(0, block.shape[1], TILE):
        end = min(tile + TILE, block.shape[1])
        near = origin[tile:end]
        for i in range(block.shape[0]):
            row = part_of(block, i, tile, end)
            for c in range(row.shape[0]):
                row[c] -= near[c]
            if to_zero.shape[0] > 0 and (i >= n or finite[i]):
                to_zero[i] -= _dot(row, near)
    if to_zero.shape[0] > 0:
        to_zero[block.shape[0]] = _dot(origin, origin)


@loop()
def gather_centred(addresses: Any, start: Any, block: Any, norms: Any, to_zero: Any) -> bool:
    """Do what `gather`, `marked_norms` and `centre_rows` do, in one pass over columns of rows at addresses.

    False if the row that was to be the origin turns out not to be finite: then nothing of it counts.
    """
    n, width = block.shape
    step = max(1, width // 16)
    shift = np.uintp(start * block.itemsize)
    sample, finite = np.empty((n, -(-width // step)), block.dtype), np.ones(n, np.bool_)
    for i in range(n):
        source = carray(pointer(addresses[i] + shift, block), width)
        for k in range(sample.shape[1]):
            sample[i, k] = source[k * step]
            finite[i] &= abs(sample[i, k]) < np.inf
    chosen = pick_centre(sample, finite)
    origin = carray(pointer(addresses[chosen] + shift, block), width)
    with_zero = to_zero.shape[0] > 0
    wide = origin.astype(np.float64) if with_zero else np.empty(0)
    to_zero[:] = 0.0
    for i in range(n):
        norms[i] = 0.0
        for tile in range(0, width, TILE):
            end = min(tile + TILE, width)
            near = origin[tile:end]
            source = carray(
                pointer(addresses[i] + shift + np.uintp(tile * block.itemsize), block), end - tile
            )
            row = part_of(block, i, tile, end)
            if with_zero:
                norm, product = _norm_and_dot(source, wide[tile:end])
                norms[i] += norm
                to_zero[i] -= product
            else:
                norms[i] += squared_norm(source)
            for c in range(row.shape[0]):
                row[c] = source[c] - near[c]
        if not np.isfinite(norms[i]):
            if i == chosen:
                return False
            norms[i] = np.inf
            for c in range(width):
                block[i, c] = -origin[c]
    if with_zero:
        own = -to_zero[chosen]
        for i in range(n):
            to_zero[i] = own + to_zero[i] if norms[i] != np.inf else 0.0
        to_zero[n] = own
    return True
