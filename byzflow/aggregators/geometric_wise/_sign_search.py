"""The sets of k indices whose principal submatrix of N has r negative eigenvalues: all of them, compiled.

A set's eigenvalues have the signs of its pivots, in whatever order indices are taken out (Haynsworth, 1968).
So the search takes them out one after another, each by a Schur complement, and goes back where more negative
pivots are needed than indices are left.
"""

from __future__ import annotations

from math import comb

import numpy as np

from byzflow.kernels.small import compiled, dot, norm

__all__ = ("signed_sets",)

_MOST = 100_000
"""Sets that are looked at in one call, at most: as much work as a few eigenvalue problems."""

_ROOM = 4096
"""Sets that are found in one call, at most."""

_DOUBT = 2.0
"""A pivot of fewer times its error may have either sign."""

_ROUNDED = 1e-15
"""Bound on the rounding of an entry, relative to the largest."""


def signed_sets(N: np.ndarray, free: np.ndarray, k: int, r: int, errors: np.ndarray) -> np.ndarray | None:
    """Return all sets of k free indices with r negative eigenvalues, (E, k), and those that may be such.

    None if they are too many, or if a pivot on the way is lost in rounding.

    Parameters
    ----------
    N : ndarray, (n, n)
        A symmetric matrix, of whose principal submatrices none has more than r negative eigenvalues.
    free : ndarray of int
        Indices.
    k : int
        Size of the sets, at least 2.
    r : int
        Negative eigenvalues.
    errors : ndarray, (n, w)
        N is known but for ``errors E errors^T``, with a symmetric E whose eigenvalues are in -1 ... 1.

    Examples
    --------
    >>> signed_sets(np.diag([1.0, -1.0, 1.0]), np.arange(3), 2, 1, np.full((3, 1), 1e-8))
    array([[0, 1],
           [1, 2]])
    """
    if comb(len(free), k) > _MOST:
        return None
    # What may be lost soonest is taken out last.
    clear = np.abs(N[free, free]) / np.square(errors[free]).sum(axis=1)
    order = np.argsort(-clear, kind="stable")
    found = np.empty((_ROOM, k), np.int64)
    part = np.ascontiguousarray(N[np.ix_(free[order], free[order])])
    count = _search(part, r, errors[free[order]], float(np.abs(part).max()), found)
    return None if count < 0 else np.sort(free[order][found[:count]], axis=1)


@compiled
def _search(N: np.ndarray, r: int, errors: np.ndarray, size: float, found: np.ndarray) -> int:
    """Write the sets into `found`; return their number, or -1. No entry of N is larger than `size`."""
    p, k, count, width = len(N), found.shape[1], 0, errors.shape[1]
    left, sizes, chosen = np.empty(k, np.int64), np.empty(k), np.empty(k, np.int64)
    M, R, E, Q = np.empty((k, p, p)), np.empty((k, p, width)), np.empty((k, p)), np.zeros((k, p))
    for i in range(p):
        for j in range(p):
            M[0, i, j] = N[i, j]
        for c in range(width):
            R[0, i, c] = errors[i, c]
        E[0, i] = norm(errors[i])
    left[0], sizes[0] = r, size
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
        if not abs(pivot) > _DOUBT * E[level, i] ** 2:
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
            for j in range(i + 1, p):
                _spread(A, i, j, level, R, E, Q, _ROUNDED * size)
            level += 1
            left[level], sizes[level], chosen[level] = negative, size, i
            continue
        for j in range(i + 1, p):
            last = A[j, j] - A[i, j] * A[i, j] / pivot
            _spread(A, i, j, level, R, E, Q, _ROUNDED * size)
            loss = E[level + 1, j] ** 2
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
    A: np.ndarray, i: int, j: int, level: int, R: np.ndarray, E: np.ndarray, Q: np.ndarray, rounding: float
) -> None:
    """Write what errors row j of that Schur complement has: in entry (j, k) no more than ``E_j E_k``.

    To first order they are again ``R E R^T``, with the rows of R that are left after row i is subtracted as
    often as row i of A is. In `Q` are the roots of the others: rounding, and those of an inexact pivot,
    ``v_j v_k / pivot`` with v the error of ``A_ij - (A_ij / A_ii) A_ii``, at most ``E_i`` times row j's.
    """
    m, error = A[i, j] / A[i, i], E[level, i] ** 2
    above, row, target = R[level, i], R[level, j], R[level + 1, j]
    for c in range(len(row)):
        target[c] = row[c] - m * above[c]
    first, second = dot(target, target), (Q[level, j] + abs(m) * Q[level, i]) ** 2
    second += (first + second) * error / (abs(A[i, i]) - error) + rounding
    Q[level + 1, j], E[level + 1, j] = np.sqrt(second), np.sqrt(first + second)
