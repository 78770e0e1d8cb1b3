"""The top eigenpair of a weighted covariance, from a Gram matrix, by Lanczos' method."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from byzflow.aggregators.norm_wise._tridiagonal import largest_pair, largest_root, last_entry
from byzflow.kernels.small import compiled, dot, lined, matvec, norm, vecmat

__all__ = ("Spectrum", "calmed", "top_spectrum", "top_variance")

_CONVERGED = 1e-13
"""An eigenpair is one if its residual is below this share of the eigenvalue."""

_SHORTER = 0.5
"""A direction that keeps less of its length is made orthogonal once more."""

_ROUNDED, _LOST = 4e-16, 1e-9
"""How far from orthogonal directions are at first, and before they are made so again: an eigenvalue feels the
square of it, and the residual nothing (Simon 1984)."""

_CHECK = 3
"""Steps between two estimates of the residual, which cost little."""

_FIRST, _LATE = 12, 48
"""Steps before the first look, which is after twice as many the next time; from the latter on at the residual
itself, whatever its estimate says, and before at the eigenvalue alone."""

_ROUGH = 1e-2
"""The last step towards an eigenvalue that is only estimated, relative: the error is far smaller."""

_SLACK = 2.0
"""How much larger than what would do the estimate may be for a look."""


_TIED = 1e-12
"""Rows whose squares differ by less than this share of them are equally far out."""


class Spectrum(NamedTuple):
    """Largest variance of weighted points along a line, and how far each point is out along it.

    Attributes
    ----------
    value : float
        Top eigenvalue of ``sum_i w_i (x_i - mean) (x_i - mean)^T / sum_i w_i``.
    squares : ndarray, (n,)
        ``<v, x_i - mean>**2`` for its unit eigenvector v; 0 for a point that is not seen.
    """

    value: float
    squares: np.ndarray


def top_spectrum(gram: np.ndarray, weights: np.ndarray) -> Spectrum:
    """Return the top eigenpair of the covariance of points with non-negative weights, not all zero.

    Only points with weight are seen.

    Parameters
    ----------
    gram : ndarray, (n, n)
        Inner products of the points about any origin.
    weights : ndarray, (n,)
        Weights; their scale is irrelevant.

    Examples
    --------
    >>> x = np.array([0.0, 2.0, 50.0])
    >>> top_spectrum(np.outer(x, x), np.array([1.0, 1.0, 0.0])).squares.round(6)
    array([1., 1., 0.])
    """
    squares = np.empty(len(weights))
    return Spectrum(top_variance(gram, weights, weights > 0.0, squares), squares)


@compiled
def calmed(weights: np.ndarray, squares: np.ndarray, most: float) -> np.ndarray:
    """Return ``w_i (1 - squares_i / most)``, for the largest square: nothing of whoever is as far out.

    Of two such rows one would else keep what rounding leaves of it, and be the farthest in the next step.
    """
    calmer = np.zeros(len(weights))
    for i in range(len(weights)):
        share = 1.0 - squares[i] / most
        if weights[i] > 0.0 and share > _TIED:
            calmer[i] = weights[i] * share
    return calmer


@compiled
def top_variance(gram: np.ndarray, weights: np.ndarray, seen: np.ndarray, squares: np.ndarray) -> float:
    """Write the squares of `Spectrum` and return its value; to be called from compiled loops."""
    n = len(weights)
    total = weights.sum()
    w, mean = np.empty(n), np.empty(n)  # inner products of the points with their mean
    for i in range(n):
        w[i] = weights[i] / total
        squares[i] = 0.0
    matvec(gram, w, mean)
    square = dot(mean, w)
    scale = 0.0
    for i in range(n):
        scale = max(scale, w[i] * (gram[i, i] - 2.0 * mean[i] + square))
    if scale == 0.0:
        return 0.0
    A = lined(n, n)
    length = A.shape[1]
    root = np.sqrt(w) / np.sqrt(scale)
    for i in range(n):
        row, products, shift = A[i], gram[i], square - mean[i]
        for j in range(n):
            row[j] = root[i] * (products[j] - mean[j] + shift) * root[j]
    vector, shadow = np.empty(length), np.empty(n)
    value = _lanczos(A, vector)
    matvec(A, vector, shadow)
    for i in range(n):
        if root[i] > 0.0:
            # A row of A v carries its root of w_i to the last digit, however small; v does not.
            squares[i] = (shadow[i] / root[i]) ** 2 / value
        elif seen[i]:
            along, products, shift = 0.0, gram[i], square - mean[i]
            for j in range(n):
                along += (products[j] - mean[j] + shift) * root[j] * vector[j]
            squares[i] = along**2 / value
    return value * scale


@compiled
def _lanczos(A: np.ndarray, vector: np.ndarray) -> float:
    """Write the unit eigenvector of the largest eigenvalue of a positive semi-definite A; return that.

    The columns of A beyond its rows are zero. A new direction is made orthogonal to the last two; and, before
    it may have lost `_LOST` of that, to all before it, again while that takes much of it, so that after at
    most ``len(A)`` steps there is nothing left. The start is scattered numbers: one with a meaning may lack
    the answer. If a start leads nowhere, what is left of the trace says whether a larger eigenvalue can hide
    from it, and another start goes on beside it.
    """
    m, width = A.shape
    Q = lined(m, width)
    diagonal, beside, s = np.zeros(m), np.zeros(m), np.empty(m)
    r, along, shadow = np.zeros(width), np.empty(m), np.empty(width)
    hidden, limit = 0.0, 0.0
    for i in range(m):
        hidden += A[i, i]
        r[i] = _scattered(i, 0)
    length = norm(r)
    value, bound, planned = 0.0, np.inf, _FIRST
    widest, tightest, lost, again = 0.0, 0.0, 0.0, False
    for k in range(m):
        q, share = Q[k], 1.0 / length
        for i in range(width):
            q[i] = r[i] * share
        vecmat(q, A, r)  # A is symmetric
        diagonal[k] = dot(q, r)
        last, coupling = (Q[k - 1], beside[k - 1]) if k else (q, 0.0)
        for i in range(width):
            r[i] -= diagonal[k] * q[i] + coupling * last[i]
        before, length = np.inf, norm(r)
        # Inner products with earlier directions obey the recurrence of the directions: this bounds them.
        widest, tightest = max(widest, diagonal[k]), max(tightest, coupling)
        lost = (lost + _ROUNDED) * (widest + 3.0 * tightest) / length
        if again or not lost < _LOST:
            again, lost = not again, 0.0  # the recurrence looks two directions back
            while length < _SHORTER * before and length > 0.0:
                _orthogonalise(r, Q[: k + 1], along, shadow)
                diagonal[k] += along[k]
                before, length = length, norm(r)
        beside[k] = length
        hidden -= diagonal[k]
        over, stuck, due = k + 1 == m, length <= 1e-15, k + 1 == planned
        if due:
            planned *= 2
        if due and k + 1 < _LATE:
            value = largest_root(diagonal, beside, k + 1, bound, _ROUGH, s)
            bound = value + length * last_entry(diagonal, beside, k + 1, value)
            limit = _SLACK * _CONVERGED * value
        near = (k + 1) % _CHECK == 0 and last_entry(diagonal, beside, k + 1, value) * length < limit
        if over or stuck or near or (due and k + 1 >= _LATE):
            value = largest_pair(diagonal, beside, k + 1, bound, s)
            residual = length * abs(s[k])
            if over or (hidden <= value if stuck else residual <= _CONVERGED * value):
                break
            bound, limit = value + residual, _SLACK * _CONVERGED * value
        if stuck:
            beside[k], bound, again, lost = 0.0, np.inf, True, 0.0
            for i in range(m):
                r[i] = _scattered(i, k + 1)
            for _ in range(2):
                _orthogonalise(r, Q[: k + 1], along, shadow)
            length = norm(r)
    vecmat(s, Q[: k + 1], vector)
    vector /= norm(vector)
    return value


@compiled
def _orthogonalise(r: np.ndarray, Q: np.ndarray, along: np.ndarray, shadow: np.ndarray) -> None:
    """Take its shadow on the directions in Q, whose inner products with it are written to `along`, from r."""
    matvec(Q, r, along)
    vecmat(along[: len(Q)], Q, shadow)
    for i in range(len(r)):
        r[i] -= shadow[i]


@compiled
def _scattered(i: int, start: int) -> float:
    """Return entry i of a start: no sum of few of them with whole weights is zero, whoever chose the few."""
    return 1e6 / (i + start + 3.141592653589793) % 1.0 + 0.5
