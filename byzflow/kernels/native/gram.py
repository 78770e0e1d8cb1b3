"""Loops over the Gram matrix of one block: at once if it is small, its digits, and one more point."""

from __future__ import annotations

from typing import Any

import numpy as np

from byzflow.kernels.native.addresses import TILE, part_of, squared_norms_at
from byzflow.kernels.native.loops import loop
from byzflow.kernels.native.order import nth
from byzflow.kernels.native.products import write_products

__all__ = ("accept_gram", "insert_point", "keeps_digits", "small_gram", "underflows")


@loop()
def keeps_digits(gram: Any, norms: Any, limit: float) -> bool:
    """Whether most rows are near the origin: not `limit` times farther, squared, than from one another.

    The latter is the distance of the nearest of eight rows from most others.
    """
    n = norms.shape[0]
    squares = np.empty(n)
    count = 0
    for i in range(n):
        squares[i] = gram[i, i] if norms[i] != np.inf else np.inf
        count += norms[i] != np.inf
    if count == 0:
        return True
    middle = count // 2
    least = nth(squares.copy(), middle) / limit
    for j in range(0, n, max(1, n // 8)):
        row = gram[j]
        nearer = 0
        for i in range(n):
            nearer += squares[i] + squares[j] - 2.0 * row[i] < least
        if norms[j] != np.inf and nearer > middle:
            return False
    return True


@loop()
def _clear_dead(gram: Any, norms: Any) -> None:
    """Write 0 to the rows and columns of rows that are not finite."""
    for i in range(norms.shape[0]):
        if norms[i] == np.inf:
            gram[i, :] = 0.0
            gram[:, i] = 0.0


@loop()
def accept_gram(gram: Any, norms: Any, limit: float) -> bool:
    """Take rows that are not finite out of a block's Gram matrix; return whether it kept the digits.

    It did if it is finite and if its origin is near most rows.
    """
    _clear_dead(gram, norms)
    finite = True
    for i in range(gram.shape[0]):
        for j in range(gram.shape[0]):
            finite &= abs(gram[i, j]) < np.inf
    if not finite:
        return False
    return bool(keeps_digits(gram, norms, limit))


@loop()
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


@loop()
def small_gram(
    addresses: Any, start: Any, width: Any, like: Any, limit: Any, bounds: Any, norms: Any, gram: Any
) -> bool:
    """Write the Gram matrix and the norms of columns ``start : start + width`` of rows where they lie.

    For blocks so small that a better origin takes longer to find. False, and nothing of it counts, if
    digits were lost, as in `accept_gram` and `underflows`: products are safe where every squared norm but 0
    is between the two `bounds`. Rows from ``len(norms)`` on are no inputs, and must be finite.
    """
    n, m = norms.shape[0], addresses.shape[0]
    squares = np.empty(m)
    squared_norms_at(addresses, start, width, like, squares)
    for i in range(m):
        dead = i < n and not np.isfinite(squares[i])
        if not (dead or squares[i] == 0.0 or bounds[0] <= squares[i] <= bounds[1]):
            return False
        if i < n:
            norms[i] = np.inf if dead else squares[i]
    write_products(addresses, start, width, like, gram)
    _clear_dead(gram, norms)
    return bool(keeps_digits(gram, norms, limit))


@loop()
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
