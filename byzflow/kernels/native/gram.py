"""The Gram matrix of one block, about the true origin or one of the rows, and whether it kept its digits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from byzflow.kernels.native.addresses import pointer, squared_norms_at
from byzflow.kernels.native.centre import pick_centre
from byzflow.kernels.native.loops import loop
from byzflow.kernels.native.order import nth
from byzflow.kernels.native.products import write_centred_products, write_products

__all__ = ("accept_gram", "centred_gram", "small_gram")


@loop()
def _keeps_digits(gram: Any, norms: Any, limit: float) -> bool:
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
def accept_gram(gram: Any, norms: Any, limit: float, shortest: float) -> bool:
    """Take rows that are not finite out of a block's Gram matrix; return whether it kept the digits.

    It did if it is finite, if its origin is near most rows, and if no squared norm but 0 is below `shortest`.
    """
    _clear_dead(gram, norms)
    kept = True
    for i in range(gram.shape[0]):
        for j in range(gram.shape[0]):
            kept &= abs(gram[i, j]) < np.inf
    for square in norms:
        kept &= not 0.0 < square < shortest
    if not kept:
        return False
    return bool(_keeps_digits(gram, norms, limit))


@loop()
def centred_gram(
    addresses: Any,
    start: Any,
    width: Any,
    like: Any,
    limit: Any,
    least: Any,
    short: Any,
    norms: Any,
    gram: Any,
) -> bool:
    """Write the Gram matrix of columns ``start : start + width`` of rows where they lie, about one of them.

    With it come the squared norms, +inf for a row that is not finite. If `gram` has one point more than there
    are rows, that is the zero. False, and only the norms count, if digits were lost, as in `accept_gram`:
    a row is too short if it is `short` times as near to the zero as the origin is, squared. They were lost,
    too, if squares may have vanished, in a point less than `least` from the origin, squared, yet not at it.
    Rows from ``len(norms)`` on are no inputs, and must be finite.
    """
    n, m, step = norms.shape[0], addresses.shape[0], max(1, width // 16)
    sample, finite = np.empty((n, -(-width // step)), like.dtype), np.ones(n, np.bool_)
    for i in range(n):
        row = carray(pointer(addresses[i] + np.uintp(start * like.itemsize), like), width)
        for k in range(sample.shape[1]):
            sample[i, k] = row[k * step]
            finite[i] &= abs(sample[i, k]) < np.inf
    chosen = 0
    for _ in range(2):  # what was picked may turn out not to be finite; then all norms are known
        chosen = pick_centre(sample, finite)
        write_centred_products(addresses, start, width, like, chosen, norms, gram)
        if np.isfinite(norms[chosen]):
            break
        finite = np.isfinite(norms)
    lost = not np.isfinite(norms[chosen])
    for i in range(n):
        if not np.isfinite(norms[i]):
            norms[i] = np.inf
    if lost:
        gram[:, m:] = 0.0
        gram[m:] = 0.0
    if not accept_gram(gram, norms, limit, short * gram[m, m] if gram.shape[0] > m else 0.0):
        return False
    for i in range(m):
        near = gram[i, i] < least and (i >= n or norms[i] != np.inf)
        if near and _differ(addresses[i], addresses[chosen], start, width, like):
            return False
    return gram.shape[0] == m or gram[m, m] >= least or not 0.0 < norms[chosen] < np.inf


@loop()
def _differ(address: Any, other: Any, start: Any, width: Any, like: Any) -> bool:
    """Whether columns ``start : start + width`` of two rows differ."""
    shift = np.uintp(start * like.itemsize)
    a, b = carray(pointer(address + shift, like), width), carray(pointer(other + shift, like), width)
    same = True
    for c in range(width):
        same &= a[c] == b[c]
    return not same


@loop()
def small_gram(
    addresses: Any, start: Any, width: Any, like: Any, limit: Any, bounds: Any, norms: Any, gram: Any
) -> bool:
    """Write the Gram matrix and the norms of columns ``start : start + width`` of rows where they lie.

    For blocks so small that a better origin takes longer to find. False, and nothing of it counts, if
    digits were lost, as in `centred_gram`: products are safe where every squared norm but 0
    is between the two `bounds`. Rows from ``len(norms)`` on are no inputs, and must be finite; points of
    `gram` that are no rows are the origin.
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
    return bool(_keeps_digits(gram, norms, limit))
