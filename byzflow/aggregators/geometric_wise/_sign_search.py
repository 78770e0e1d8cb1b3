"""The sets of k indices whose principal submatrix of N has r negative eigenvalues: all of them, compiled.

A set's eigenvalues have the signs of its pivots, in whatever order indices are taken out (Haynsworth, 1968).
So the search takes them out in ascending order, each by a Schur complement, and goes back where more negative
pivots are needed than indices are left.
"""

from __future__ import annotations

from math import comb

import numpy as np

from byzflow.kernels.small import compiled

__all__ = ("signed_sets",)

_MOST = 100_000
"""Sets that are looked at in one call, at most: as much work as a few eigenvalue problems."""

_ROOM = 256
"""Sets that are found in one call, at most."""

_DOUBT = 16.0
"""A pivot of fewer times its error may have either sign."""


def signed_sets(N: np.ndarray, free: np.ndarray, k: int, r: int, error: float) -> np.ndarray | None:
    """Return all sets of k free indices with r negative eigenvalues, (E, k), and those that may be such.

    None if they are too many, or if a pivot on the way is lost in rounding.

    Parameters
    ----------
    N : ndarray, (n, n)
        A symmetric matrix, of whose principal submatrices none has more than r negative eigenvalues.
    free : ndarray of int
        Ascending indices.
    k : int
        Size of the sets, at least 2.
    r : int
        Negative eigenvalues.
    error : float
        Bound on the errors of N's entries.

    Examples
    --------
    >>> signed_sets(np.diag([1.0, -1.0, 1.0]), np.arange(3), 2, 1, 1e-15)
    array([[0, 1],
           [1, 2]])
    """
    if comb(len(free), k) > _MOST:
        return None
    found = np.empty((_ROOM, k), np.int64)
    part = np.ascontiguousarray(N[np.ix_(free, free)])
    count = _search(part, r, error, float(np.abs(part).max()), found)
    return None if count < 0 else free[found[:count]]


@compiled
def _search(N: np.ndarray, r: int, error: float, size: float, found: np.ndarray) -> int:
    """Write the sets into `found`; return their number, or -1. No entry of N is larger than `size`."""
    p, k, count = len(N), found.shape[1], 0
    left, errors, sizes = np.empty(k, np.int64), np.empty(k), np.empty(k)
    M, chosen = np.empty((k, p, p)), np.empty(k, np.int64)
    for i in range(p):
        for j in range(p):
            M[0, i, j] = N[i, j]
    left[0], errors[0], sizes[0] = r, error, size
    level, chosen[0] = 0, -1
    while level >= 0:
        chosen[level] += 1
        i = chosen[level]
        others = k - level - 1
        if i + others >= p:
            level -= 1
            continue
        A = M[level]
        pivot = A[i, i]
        if not abs(pivot) > _DOUBT * errors[level]:
            return -1
        negative = left[level] - (1 if pivot < 0.0 else 0)
        if negative > others:
            continue
        growth = 0.0
        for j in range(i + 1, p):
            growth = max(growth, abs(A[i, j]) / abs(pivot))
        size = sizes[level] + growth * growth * abs(pivot)
        loss = 2.0 * errors[level] * (1.0 + growth) ** 2 + 1e-15 * size
        if others > 1:
            _take_out(A, i, M[level + 1])
            level += 1
            left[level], errors[level], sizes[level], chosen[level] = negative, loss, size, i
            continue
        for j in range(i + 1, p):
            last = A[j, j] - A[i, j] * A[i, j] / pivot
            if (last <= loss) if negative == 1 else (last >= -loss):
                if count == len(found):
                    return -1
                for c in range(k - 1):
                    found[count, c] = chosen[c]
                found[count, k - 1] = j
                count += 1
    return count


@compiled
def _take_out(A: np.ndarray, i: int, out: np.ndarray) -> None:
    """Write the Schur complement of entry i, right of it and below, into `out`: its upper triangle."""
    p = len(A)
    row = A[i]
    for j in range(i + 1, p):
        factor = row[j] / row[i]
        above, target = A[j], out[j]
        for c in range(j, p):
            target[c] = above[c] - factor * row[c]
