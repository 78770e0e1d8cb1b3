"""The m of n points whose covariance has the smallest top eigenvalue: exact, by branch and bound.

A node of the search is a pool of points, some of them settled to stay. It is bounded from below

* along any direction: the least variance of m points of the pool along a line is that of a window of the
  sorted projections, together with the settled points;
* by interlacing: taking out one point lowers no eigenvalue below the next one, so taking out k leaves the
  top one at or above the (k + 1)-th.

What settles nodes with few points left to take out is in `byzflow.aggregators.geometric_wise._removals`.
Where a second subset turns out to be as good as the best, the search begins anew: for the least eigenvalue,
and then for the first subset that has it.
Nodes are processed in batches, so that NumPy does the work; Ctrl-C stops it between two batches. Eigenvalues
come from torch, whose LAPACK can be held to one thread: for matrices this small several only wait.
"""

from __future__ import annotations

import numpy as np
import torch

from byzflow.aggregators.geometric_wise._best_subset import Best
from byzflow.aggregators.geometric_wise._removals import settle
from byzflow.kernels.small import product
from byzflow.kernels.threads import one_thread

__all__ = ("least_top_eigenvalue", "scatter")

_BATCH = 256
"""Nodes processed at once."""

_Nodes = tuple[np.ndarray, np.ndarray]
"""A batch of nodes: which points are in the pool, and which of them stay; both (B, n) bool."""


def least_top_eigenvalue(gram: np.ndarray, m: int) -> np.ndarray:
    """Return m points whose covariance has the least top eigenvalue, the first in lexicographic order.

    Parameters
    ----------
    gram : ndarray, (n, n)
        Inner products of the points about an origin near most of them.
    m : int
        Points to keep, ``n < 2 m <= 2 n``.

    Examples
    --------
    >>> x = np.array([0.0, 1.0, 2.0, 7.0])
    >>> least_top_eigenvalue(np.outer(x, x), 3)
    array([0, 1, 2])
    """
    if m == len(gram):
        return np.arange(m)
    with one_thread():
        best = Best(gram, m)
        best.offer(_neighbourhoods(gram, m))
        _search(best)
        if best.is_tied:
            for best.wanted in ("least", "first"):
                _search(best)
    return np.array(best.rows)


def _search(best: Best) -> None:
    n = len(best.gram)
    stack: list[_Nodes] = [(np.ones((1, n), bool), np.zeros((1, n), bool))]
    while stack and not best.is_point() and not (best.is_tied and best.wanted == "only"):
        pool, kept = stack.pop()
        while stack and len(pool) < _BATCH:
            below = stack.pop()
            pool, kept = np.concatenate((below[0], pool)), np.concatenate((below[1], kept))
        if len(pool) > _BATCH:
            stack.append((pool[:-_BATCH], kept[:-_BATCH]))
            pool, kept = pool[-_BATCH:], kept[-_BATCH:]
        stack.extend(_children(best, pool, kept))


def scatter(gram: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the Gram matrices of subsets about their own means, (B, n, n); zero outside the subset."""
    inside = masks.astype(np.float64)
    size = inside.sum(axis=1)
    mean = product(inside, gram) / size[:, None]
    square = (mean * inside).sum(axis=1) / size
    C: np.ndarray = gram - mean[:, :, None]
    C -= mean[:, None, :]
    C += square[:, None, None]
    C *= inside[:, :, None]
    C *= inside[:, None, :]
    return C


def _neighbourhoods(gram: np.ndarray, m: int) -> np.ndarray:
    """Return each point's m nearest points, (n, n) bool: the first subsets to try."""
    squares = gram.diagonal()
    order = np.argsort(squares - 2.0 * gram, axis=1, kind="stable")[:, :m]
    masks = np.zeros(gram.shape, bool)
    np.put_along_axis(masks, order, True, axis=1)
    return masks


def _children(best: Best, pool: np.ndarray, kept: np.ndarray) -> list[_Nodes]:
    """Return the nodes below those that may hold a better subset; the last are to be looked at first."""
    m = best.m
    pairs = torch.linalg.eigh(torch.from_numpy(scatter(best.gram, pool)))
    values, vectors = pairs[0].numpy(), pairs[1].numpy()
    surplus = pool.sum(axis=1) - m
    place = len(best.gram) - 1 - surplus
    interlaced = values[np.arange(len(pool)), place] - 1e-13 * values[:, -1]
    along = _projections(best, vectors[:, :, -1])
    spread, subsets = _windows(along, pool, kept, m)
    bound = np.maximum(spread, interlaced)
    open_ = best.may_hold(bound, pool, kept)
    best.offer(subsets[open_])
    rows = np.flatnonzero(open_ & (bound <= best.limit) & (surplus > 0) & (kept.sum(axis=1) < m))
    if len(rows) == 0 or best.is_point():
        return []
    pool, kept = pool[rows], kept[rows]
    kept, alive, subsets = settle(pool, kept, values[rows], vectors[rows], surplus[rows], best.limit)
    best.offer(subsets)
    rows, pool, kept = rows[alive], pool[alive], kept[alive]
    if len(rows) == 0:
        return []
    best_last = np.argsort(-bound[rows], kind="stable")
    rows, pool, kept = rows[best_last], pool[best_last], kept[best_last]
    lever = np.where(pool & ~kept, np.abs(along[rows]), -1.0).argmax(axis=1)
    # Of equal points the last goes first: the first subset is wanted. If it stays, so do the others.
    twins = best.twins[lever] & pool & ~kept
    last = len(best.gram) - 1 - twins[:, ::-1].argmax(axis=1)
    smaller, settled = pool.copy(), kept | twins
    smaller[np.arange(len(rows)), last] = False
    fits = settled.sum(axis=1) <= m
    below = [(smaller, kept)]
    return [(pool[fits], settled[fits]), *below] if fits.any() else below


def _projections(best: Best, directions: np.ndarray) -> np.ndarray:
    """Return the points along unit directions given by weights, (B, n), about their median.

    Uses inner products about the common origin, so that a far point costs the near ones no digits, and cuts
    off what no subset as good as the best can hold: m points with two of them ``2 (2 value)**0.5`` apart
    have a greater spread.
    """
    along = product(directions, best.gram)
    lengths = np.sqrt(np.maximum((directions * along).sum(axis=1), 1e-300))
    along /= lengths[:, None]
    along -= np.median(along, axis=1)[:, None]
    most = 2.0 * np.sqrt(2.0 * best.value)
    clipped: np.ndarray = np.clip(along, -most, most)
    return clipped


def _windows(along: np.ndarray, pool: np.ndarray, kept: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the least spread of m pool points with the kept ones among them, (B,), and those points, (B, n).

    The spread is m times the variance. Given the mean, the best points are the nearest to it: a window.
    """
    B, n = along.shape
    free = pool & ~kept
    order = np.argsort(np.where(free, along, np.inf), axis=1, kind="stable")
    here = np.arange(B)[:, None]
    ascending = np.where(free, along, 0.0)[here, order]
    sums = np.zeros((2, B, n + 1))
    np.cumsum(ascending, axis=1, out=sums[0, :, 1:])
    np.cumsum(ascending * ascending, axis=1, out=sums[1, :, 1:])
    chosen = np.where(kept, along, 0.0)
    need = m - kept.sum(axis=1)
    count = free.sum(axis=1)
    first = np.arange(max(int((count - need).max()) + 1, 1))
    last = first + need[:, None]
    valid = last <= count[:, None]
    last = np.minimum(last, n)
    totals = (
        sums[:, here, last]
        - sums[:, here, first]
        + np.stack((chosen.sum(axis=1), (chosen * chosen).sum(axis=1)))[:, :, None]
    )
    spread = np.where(valid, totals[1] - totals[0] ** 2 / m, np.inf)
    at = spread.argmin(axis=1)[:, None]
    place = np.arange(n)
    subsets = kept.copy()
    window = np.zeros_like(kept)
    np.put_along_axis(window, order, (place >= at) & (place < at + need[:, None]), axis=1)
    return spread.min(axis=1), subsets | (window & free)
