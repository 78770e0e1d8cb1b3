"""Loops over the Gram matrix of one block: whether it kept the digits, and one more point of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from byzflow.kernels.native.addresses import TILE, part_of
from byzflow.kernels.native.order import nth

__all__ = ("accept_gram", "insert_point", "keeps_digits", "underflows")


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
    least = nth(squares[:count], middle) / limit
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
