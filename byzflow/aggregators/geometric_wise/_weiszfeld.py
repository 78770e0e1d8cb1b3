"""The point with the least sum of distances to given points, from their Gram matrix alone."""

from __future__ import annotations

import numpy as np

from byzflow.kernels.native.order import nth
from byzflow.kernels.small import cholesky_solve, compiled, dot, matvec, sq_distances, sq_distances_to

__all__ = ("median_weights",)

_SLOW = 0.3
"""Weiszfeld's steps shrink by this factor or less, or Newton's take over."""


def median_weights(
    gram: np.ndarray, order: np.ndarray, *, tol: float, max_iter: int, eps: float
) -> np.ndarray:
    """Return weights, summing to 1, of the geometric median of m points.

    The best of the points (the medoid) is the median if the unit vectors from it to the others add up to no
    more than the number of points on it (Vardi and Zhang, 2000). If not, their step leaves it downhill, and
    no later iterate can meet a point, since all points are higher: from there Weiszfeld's iteration is safe.
    Where it converges slowly, Newton's step for the sum of distances replaces it; in Gram space that is
    an (m, m) linear system.

    Parameters
    ----------
    gram : ndarray, (m, m)
        Inner products of the points about any origin.
    order : ndarray, (m,)
        Of several equally good medoids the one with the least of these values is taken, then the first.
    tol : float
        Stop when an iterate moves less than ``1e-3 tol``, relative if the points are closer than 1.
    max_iter : int
        Iterations at most.
    eps : float
        Points nearer than this are one point; relative if the points are closer than 1.
    """
    weights = np.zeros(len(gram))
    eps = _relative(gram, eps)
    if _leave_medoid(gram, order, eps, weights):
        _descend(gram, weights, tol, max_iter, eps)
    return weights


@compiled
def _relative(gram: np.ndarray, eps: float) -> float:
    """Return eps, as a share of the least distance that holds half of all from a point if that is below 1."""
    m = len(gram)
    D = sq_distances(gram, np.ones(m, np.bool_))
    near = False
    for i in range(m):
        for j in range(i):
            near |= 0.0 < D[i, j] <= eps * eps
    if not near:  # as ever: nothing hangs on it
        return eps
    least = 1.0
    for i in range(m):
        half = nth(D[i], m // 2)
        least = min(least, half if half > 0.0 else 1.0)
    return float(eps * np.sqrt(least))


@compiled
def _leave_medoid(gram: np.ndarray, order: np.ndarray, eps: float, weights: np.ndarray) -> bool:
    """Write the weights of the medoid, or of a point below it if there is any; return whether there is."""
    m = len(gram)
    D = sq_distances(gram, np.ones(m, np.bool_))
    for i in range(m):
        for j in range(m):
            apart = D[i, j] > max(eps * eps, 1e-14 * (gram[i, i] + gram[j, j]))
            D[i, j] = np.sqrt(D[i, j]) if apart else 0.0
    totals = np.empty(m)
    matvec(D, np.ones(m), totals)
    base, k = int(totals.argmin()), -1
    for i in range(m):
        change = gram[i, i] - gram[base, base]
        totals[i] = _rise(change - 2.0 * (gram[i] - gram[base]), D[i], D[base])
    limit = totals.min() + 1e-12 * _size(D[base])
    for i in range(m):
        if totals[i] <= limit and (k < 0 or order[i] < order[k]):
            k = i
    pull = np.zeros(m)
    for i in range(m):
        if D[k, i] > 0.0:
            pull[i] = 1.0 / D[k, i]
    count = np.count_nonzero(pull == 0.0)
    total = pull.sum()
    product = np.empty(m)
    matvec(gram, pull, product)
    # The length of sum_i pull_i (x_i - x_k).
    square = dot(pull, product) - 2.0 * total * product[k] + total * total * gram[k, k]
    force = np.sqrt(max(square, 0.0))
    if force <= count * (1.0 + 1e-12):
        weights[k] = 1.0
        return False
    for i in range(m):
        weights[i] = pull[i] * ((1.0 - count / force) / total)
    weights[k] += 1.0 - weights.sum()
    return True


@compiled
def _descend(gram: np.ndarray, weights: np.ndarray, tol: float, max_iter: int, eps: float) -> None:
    m = len(gram)
    product, distances, moved = np.empty(m), np.empty(m), np.empty(m)
    newton, before = False, np.inf
    for _ in range(max_iter):
        _distances(gram, weights, eps, product, distances)
        for i in range(m):
            moved[i] = 1.0 / distances[i]
        total = moved.sum()
        for i in range(m):
            moved[i] /= total
        if newton:
            _newton(gram, weights, product, distances, eps, moved)
        step = dot(np.abs(moved - weights), distances)  # an upper bound that does not cancel
        for i in range(m):
            weights[i] = moved[i]
        scale = m / total
        if step <= max(1e-3 * tol * min(1.0, scale), 1e-13 * scale):
            break
        newton = newton or step > _SLOW * before
        before = step


@compiled
def _distances(
    gram: np.ndarray, weights: np.ndarray, eps: float, product: np.ndarray, distances: np.ndarray
) -> None:
    """Write the distances of the points to the weighted one, at least `eps`; see `sq_distances_to`."""
    sq_distances_to(gram, weights, product, distances)
    for i in range(len(distances)):
        distances[i] = max(np.sqrt(distances[i]), eps)


@compiled
def _newton(
    gram: np.ndarray,
    weights: np.ndarray,
    product: np.ndarray,
    distances: np.ndarray,
    eps: float,
    moved: np.ndarray,
) -> None:
    """Write the weights after Newton's step into `moved`, unless that would not go downhill.

    With ``b_i = 1 / d_i``, ``S = sum b_i`` and the columns ``a_i = b_i**1.5 (z - x_i)`` the Hessian is
    ``S I - A A^T``; its inverse needs only the (m, m) matrix ``S I - A^T A``.
    """
    m = len(gram)
    square = dot(weights, product)
    pull = 1.0 / distances
    total = pull.sum()
    h = pull * np.sqrt(pull)
    system, t = np.empty((m, m)), np.empty(m)
    for i in range(m):
        for j in range(m):
            system[i, j] = gram[i, j] - product[i] - product[j] + square
    matvec(system, pull, t)
    for i in range(m):
        t[i] *= h[i]
        for j in range(m):
            system[i, j] *= -h[i] * h[j]
        system[i, i] += total
    if not cholesky_solve(system, t):
        return
    c = (pull + h * t) / total
    to = weights * (1.0 - c.sum()) + c
    ahead, after = np.empty(m), np.empty(m)
    _distances(gram, to, eps, ahead, after)
    change = dot(to, ahead) - square - 2.0 * (ahead - product)
    if _rise(change, after, distances) <= 1e-15 * _size(distances):
        for i in range(m):
            moved[i] = to[i]


@compiled
def _rise(changes: np.ndarray, after: np.ndarray, before: np.ndarray) -> float:
    """Return how much a sum of distances rises by, from what their squares change by.

    One row of 1e38 would leave no digit of such sums for the others.
    """
    total = 0.0
    for i in range(len(before)):
        if after[i] > 0.0 and before[i] > 0.0:
            total += changes[i] / (after[i] + before[i])
        else:
            total += after[i] - before[i]
    return total


@compiled
def _size(distances: np.ndarray) -> float:
    """Return the sum of distances, of which none counts for more than a thousand times the middle one."""
    most = 1e3 * nth(distances.copy(), len(distances) // 2)
    total = 0.0
    for i in range(len(distances)):
        total += min(distances[i], most)
    return total
