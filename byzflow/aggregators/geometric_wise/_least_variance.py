"""The m of n points with the least total variance: exact, by branch and bound over what to leave out.

With the points y_i about the mean of the pool, leaving out R lowers the scatter (the sum of squared distances
to the mean) by

    gain(R) = sum_{i in R} |y_i|**2 + |sum_{i in R} y_i|**2 / m,

so the search is for the k = n - m points of the greatest gain: a sum of single and of pair terms. It is
bounded by giving every point its k - 1 best partners.
"""

from __future__ import annotations

import numpy as np

__all__ = ("least_variance",)

_TIE = 1e-12
"""Gains that differ by less than this, relative to the scatter, are equal."""


def least_variance(sq_distances: np.ndarray, m: int) -> np.ndarray:
    """Return m points with the least total variance, the first in lexicographic order of the best.

    Parameters
    ----------
    sq_distances : ndarray, (n, n)
        Squared distances, symmetric and finite.
    m : int
        Points to keep, ``1 <= m <= n``.

    Examples
    --------
    >>> x = np.array([0.0, 5.0, 6.0, 7.0, 8.0])
    >>> least_variance((x[:, None] - x) ** 2, 3)
    array([1, 2, 3])
    """
    pool = np.flatnonzero(_may_stay(sq_distances, m))
    if len(pool) == m:
        return pool
    D = sq_distances[np.ix_(pool, pool)]
    mean = D.mean(axis=1)
    centred = -0.5 * (D - mean[:, None] - mean + mean.mean())
    out = _greatest_gain(centred, m)
    return np.delete(pool, out)


def _may_stay(sq_distances: np.ndarray, m: int) -> np.ndarray:
    """Rule out points that no best subset holds; far ones would cost the others their digits.

    A point of a subset with scatter s has squared distances to the others of at most ``m s`` in total.
    """
    ascending = np.sort(sq_distances, axis=1)
    totals = ascending[:, :m].sum(axis=1)
    near = np.argsort(sq_distances, axis=1, kind="stable")[totals.argmin(), :m]
    scatter = sq_distances[np.ix_(near, near)].sum() / (2 * m)
    may_stay: np.ndarray = totals <= m * scatter * (1.0 + 1e-9)
    return may_stay


def _greatest_gain(centred: np.ndarray, m: int) -> list[int]:
    """Return the ``n - m`` points of the greatest gain; of equal ones those that leave the first subset."""
    n = len(centred)
    tie = _TIE * max(float(np.trace(centred)), 0.0)
    pairs = centred * (2.0 / m)
    np.fill_diagonal(pairs, -np.inf)
    best, best_out, best_rest = -np.inf, [], tuple(range(n, n + m))
    # A node: points taken, their gain, what each other point would add, which of them are still open.
    stack = [(list[int](), 0.0, centred.diagonal() * (1.0 + 1.0 / m), np.arange(n))]
    while stack:
        taken, gain, adds, open_ = stack.pop()
        k = n - m - len(taken)
        if k == 0:
            rest = tuple(i for i in range(n) if i not in taken)
            if gain > best + tie or (gain >= best - tie and rest < best_rest):
                best_out, best_rest = taken, rest
            best = max(best, gain)
            continue
        if len(open_) < k:
            continue
        bounds = adds[open_] + _best_partners(pairs[np.ix_(open_, open_)], k)
        bound = gain + np.partition(bounds, len(bounds) - k)[len(bounds) - k :].sum()
        if bound < best - tie or (bound <= best + tie and _rest(n, taken, open_, k) >= best_rest):
            continue
        # Of equal points the last goes first, since the first subset is wanted.
        i = int(open_[bounds >= bounds.max() - tie][-1])
        others = open_[open_ != i]
        stack.append((taken, gain, adds, others))
        stack.append(([*taken, i], gain + float(adds[i]), adds + pairs[i], others))
    return best_out


def _best_partners(pairs: np.ndarray, k: int) -> np.ndarray:
    """Return half the sum of each point's k - 1 greatest pair terms."""
    if k == 1:
        return np.zeros(len(pairs))
    greatest = np.partition(pairs, len(pairs) - k + 1, axis=1)[:, len(pairs) - k + 1 :]
    half: np.ndarray = greatest.sum(axis=1) * 0.5
    return half


def _rest(n: int, taken: list[int], open_: np.ndarray, k: int) -> tuple[int, ...]:
    """Return the first subset, in lexicographic order, that a node below can leave."""
    out = {*taken, *open_[len(open_) - k :].tolist()}
    return tuple(i for i in range(n) if i not in out)
