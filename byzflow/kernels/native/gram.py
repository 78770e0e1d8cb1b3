"""Loops over one block on its way to a Gram matrix: norms, the choice of an origin, the digits left."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from byzflow.kernels.native.addresses import FAST, TILE, part_of

__all__ = (
    "accept_gram",
    "centre_rows",
    "insert_point",
    "is_finite",
    "keeps_digits",
    "marked_norms",
    "pick_centre",
    "squared_norms",
    "underflows",
)


@njit(nogil=True, cache=True, fastmath=FAST)
def squared_norms(block: Any, out: Any) -> None:
    """Write the squared norm of every row of `block` into `out` (float64; inf or NaN if a value is)."""
    for i in range(block.shape[0]):
        row = part_of(block, i, 0, block.shape[1])
        total = 0.0
        for c in range(row.shape[0]):
            value = np.float64(row[c])
            total += value * value
        out[i] = total


@njit(nogil=True, cache=True)
def is_finite(block: Any) -> bool:
    """Whether `block` holds neither NaN nor infinities."""
    for i in range(block.shape[0]):
        row = part_of(block, i, 0, block.shape[1])
        finite = True
        for c in range(row.shape[0]):
            finite &= abs(row[c]) < np.inf
        if not finite:
            return False
    return True


@njit(nogil=True, cache=True, fastmath=FAST)
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
        score = np.sort(distances[:count])[count // 2]
        if score < best_score:
            best, best_score = j, score
    if best_score == np.inf:
        for j in range(n):
            if finite[j]:
                return j
    return best


@njit(nogil=True, cache=True)
def marked_norms(block: Any, norms: Any) -> None:
    """Write the squared norms of the first ``len(norms)`` rows; +inf for a row that is not finite."""
    squared_norms(block[: norms.shape[0]], norms)
    for i in range(norms.shape[0]):
        if not np.isfinite(norms[i]):
            norms[i] = np.inf


@njit(nogil=True, cache=True, fastmath=FAST)
def _dot(a: Any, b: Any) -> Any:
    total = 0.0
    for c in range(a.shape[0]):
        total += np.float64(a[c]) * np.float64(b[c])
    return total


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def keeps_digits(gram: Any, norms: Any, limit: float) -> bool:
    """Whether most rows are near the origin: not `limit` times farther, squared, than from one another.

    The latter is the distance of the nearest of eight rows from most others.
    """
    n = norms.shape[0]
    squares = np.empty(n)
    count = 0
    for i in range(n):
        if norms[i] != np.inf:
            squares[count] = gram[i, i]
            count += 1
    if count == 0:
        return True
    middle = count // 2
    least = np.sort(squares[:count])[middle] / limit
    for j in range(0, n, max(1, n // 8)):
        if norms[j] == np.inf:
            continue
        nearer = 0
        for i in range(n):
            if norms[i] != np.inf and max(gram[i, i] + gram[j, j] - 2.0 * gram[i, j], 0.0) < least:
                nearer += 1
        if nearer > middle:
            return False
    return True


@njit(nogil=True, cache=True)
def accept_gram(product: Any, norms: Any, limit: float, gram: Any) -> bool:
    """Copy a block's Gram matrix to float64, without rows that are not finite, if it kept the digits.

    It did if it is finite and if its origin is near most rows.
    """
    m = product.shape[0]
    for i in range(m):
        for j in range(m):
            gram[i, j] = product[i, j]
    for i in range(norms.shape[0]):
        if norms[i] == np.inf:
            gram[i, :] = 0.0
            gram[:, i] = 0.0
    finite = True
    for i in range(m):
        for j in range(m):
            finite &= abs(gram[i, j]) < np.inf
    if not finite:
        return False
    return bool(keeps_digits(gram, norms, limit))


@njit(nogil=True, cache=True)
def underflows(block: Any, norms: Any, gram: Any, least: float) -> bool:
    """Whether a row lies so near the origin, yet not at it, that squares of its entries may have vanished.

    Near means that its entry in the Gram matrix is below `least`; rows that are not finite do not count.
    """
    for i in range(block.shape[0]):
        if gram[i, i] < least and (i >= norms.shape[0] or norms[i] != np.inf):
            for tile in range(0, block.shape[1], TILE):
                row = part_of(block, i, tile, min(tile + TILE, block.shape[1]))
                zero = True
                for c in range(row.shape[0]):
                    zero &= row[c] == 0.0
                if not zero:
                    return True
    return False


@njit(nogil=True, cache=True)
def insert_point(gram: Any, at: Any, products: Any) -> Any:
    """Return the Gram matrix with one more point at index `at`, given its products with all, its own last."""
    k = gram.shape[0]
    out = np.empty((k + 1, k + 1))
    for i in range(k):
        row = i + (i >= at)
        for j in range(k):
            out[row, j + (j >= at)] = gram[i, j]
        out[row, at] = products[i]
        out[at, row] = products[i]
    out[at, at] = products[k]
    return out
