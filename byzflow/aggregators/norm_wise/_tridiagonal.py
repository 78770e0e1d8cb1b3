"""The top eigenpair of a symmetric tridiagonal matrix, which is what Lanczos' method leaves to find."""

from __future__ import annotations

import numpy as np

from byzflow.kernels.small import compiled, norm

__all__ = ("largest_pair", "largest_root", "last_entry")

_LAST_BIT = 2e-16
"""A step towards an eigenvalue that changes nothing, relative."""


@compiled
def largest_root(
    diagonal: np.ndarray, beside: np.ndarray, k: int, guess: float, tolerance: float, pivots: np.ndarray
) -> float:
    """Return the largest eigenvalue of a (k, k) tridiagonal matrix, or a little more, and write the pivots.

    Laguerre's iteration for the characteristic polynomial comes down from a bound and cannot pass the root;
    from the guess, if that turns out to be a bound. A step below `tolerance`, relative, is the last; if that
    is 0, the pivots are those of the matrix less its eigenvalue, from the first row on.
    """
    bound = 0.0
    for i in range(k):
        bound = max(bound, diagonal[i] + beside[i] + (beside[i - 1] if i else 0.0))
    value = min(guess, bound)
    for _ in range(100):
        # With the derivatives of the pivots by value, over the pivots.
        slope, bend, first, second, above, r = 0.0, 0.0, 0.0, 0.0, True, 0.0
        for i in range(k):
            pivots[i] = _away(diagonal[i] - value - r)
            inverse = 1.0 / pivots[i]
            above = above and inverse < 0.0
            second = r * (second - 2.0 * first * first) * inverse
            first = (r * first - 1.0) * inverse
            slope += first
            bend += first * first - second
            r = beside[i] ** 2 * inverse
        step = k / (slope + np.sqrt(max((k - 1) * (k * bend - slope * slope), 0.0)))
        if not above and value == guess < bound:
            value = bound
            continue
        if not (above and step > _LAST_BIT * value):
            break
        value -= step
        if step <= tolerance * value:
            break
    return value


@compiled
def _away(pivot: float) -> float:
    return -1e-30 if pivot == 0.0 else pivot


@compiled
def largest_pair(diagonal: np.ndarray, beside: np.ndarray, k: int, guess: float, s: np.ndarray) -> float:
    """Write the unit eigenvector of the largest eigenvalue of a (k, k) tridiagonal matrix; return that."""
    down, up = np.empty(k), np.empty(k)  # pivots from the first row on, and from the last
    value = largest_root(diagonal, beside, k, guess, 0.0, down)
    # The vector begins at the row where the two meet nearest zero: there it is not small.
    twist, least, r = 0, np.inf, 0.0
    for i in range(k - 1, -1, -1):
        gap = abs(down[i] - r)
        up[i] = _away(diagonal[i] - value - r)
        r = beside[i - 1] ** 2 / up[i] if i else 0.0
        if gap < least:
            twist, least = i, gap
    s[twist] = 1.0
    for i in range(twist - 1, -1, -1):
        s[i] = -beside[i] * s[i + 1] / down[i]
    for i in range(twist + 1, k):
        s[i] = -beside[i - 1] * s[i - 1] / up[i]
    length = norm(s[:k])
    for i in range(k):
        s[i] /= length
    return value


@compiled
def last_entry(diagonal: np.ndarray, beside: np.ndarray, k: int, value: float) -> float:
    """Return about how large the last entry of an eigenvector of a tridiagonal matrix is, beside the others.

    The eigenvalue is known roughly: entries are followed from the last one on, as long as they grow.
    """
    pivot, share = diagonal[k - 1] - value, 1.0
    for i in range(k - 1, 0, -1):
        if not beside[i - 1] < -pivot:
            break
        share *= beside[i - 1] / -pivot
        pivot = diagonal[i - 1] - value + beside[i - 1] ** 2 / -pivot
    return share
