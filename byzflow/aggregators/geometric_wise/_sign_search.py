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

_ROOM = 4096
"""Sets that are found in one call, at most."""

_DOUBT = 2.0
"""A pivot of fewer times its error may have either sign."""

_ROUNDED = 1e-15
"""Bound on the rounding of an entry, relative to the largest."""


def signed_sets(N: np.ndarray, free: np.ndarray, k: int, r: int, roots: np.ndarray) -> np.ndarray | None:
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
    roots : ndarray, (n,)
        The error of an entry of N is at most the product of those of its row and its column.

    Examples
    --------
    >>> signed_sets(np.diag([1.0, -1.0, 1.0]), np.arange(3), 2, 1, np.full(3, 1e-8))
    array([[0, 1],
           [1, 2]])
    """
    if comb(len(free), k) > _MOST:
        return None
    found = np.empty((_ROOM, k), np.int64)
    part = np.ascontiguousarray(N[np.ix_(free, free)])
    count = _search(part, r, roots[free], float(np.abs(part).max()), found)
    return None if count < 0 else free[found[:count]]


@compiled
def _search(N: np.ndarray, r: int, roots: np.ndarray, size: float, found: np.ndarray) -> int:
    """Write the sets into `found`; return their number, or -1. No entry of N is larger than `size`."""
    p, k, count = len(N), found.shape[1], 0
    left, sizes, chosen = np.empty(k, np.int64), np.empty(k), np.empty(k, np.int64)
    M, W, E, Q = np.empty((k, p, p)), np.empty((k, p, k)), np.empty((k, p)), np.zeros((k, p))
    for i in range(p):
        E[0, i] = roots[i]
        for j in range(p):
            M[0, i, j] = N[i, j]
    left[0], sizes[0] = r, size
    level, chosen[0] = 0, -1
    while level >= 0:
        chosen[level] += 1
        i = chosen[level]
        others = k - level - 1
        if i + others >= p:
            level -= 1
            continue
        A, errors = M[level], E[level]
        pivot, error = A[i, i], errors[i] * errors[i]
        if not abs(pivot) > _DOUBT * error:
            return -1
        negative = left[level] - (1 if pivot < 0.0 else 0)
        if negative > others:
            continue
        growth = 0.0
        for j in range(i + 1, p):
            growth = max(growth, abs(A[i, j]) / abs(pivot))
        size = sizes[level] + growth * growth * abs(pivot)
        if others > 1:
            _take_out(A, i, M[level + 1])
            _spread(A, i, level, chosen, roots, W, E, Q, _ROUNDED * size)
            level += 1
            left[level], sizes[level], chosen[level] = negative, size, i
            continue
        for j in range(i + 1, p):
            m = A[i, j] / pivot
            last = A[j, j] - A[i, j] * m
            loss = (errors[j] + abs(m) * errors[i]) ** 2 * abs(pivot) / (abs(pivot) - error) + _ROUNDED * size
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


@compiled
def _spread(
    A: np.ndarray,
    i: int,
    level: int,
    chosen: np.ndarray,
    roots: np.ndarray,
    W: np.ndarray,
    E: np.ndarray,
    Q: np.ndarray,
    rounding: float,
) -> None:
    """Write the errors of that Schur complement: of its entry (j, k) no more than ``E_j E_k``.

    From row j of N each row c that is taken out is subtracted ``W_jc`` times, and so are columns: to first
    order errors are what that makes of those of N. In `Q` are the roots of the others: those of an
    inexact pivot, ``v_j v_k / pivot`` with v the error of ``A_ij - (A_ij / A_ii) A_ii``, and rounding.
    """
    pivot, error = abs(A[i, i]), E[level, i] * E[level, i]
    for j in range(i + 1, len(A)):
        m = A[i, j] / A[i, i]
        first = roots[j] + abs(m) * roots[i]
        for c in range(level):
            W[level + 1, j, c] = W[level, j, c] - m * W[level, i, c]
            first += abs(W[level + 1, j, c]) * roots[chosen[c]]
        W[level + 1, j, level] = m
        inexact = (E[level, j] + abs(m) * E[level, i]) ** 2 * error / (pivot - error)
        second = (Q[level, j] + abs(m) * Q[level, i]) ** 2 + inexact + rounding
        Q[level + 1, j], E[level + 1, j] = np.sqrt(second), np.sqrt(first * first + second)
