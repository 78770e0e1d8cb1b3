"""Order statistics down the columns of an (n, w) block, NaN after +inf; the block is overwritten.

Host blocks run a sorting network, pruned to the ranks that are wanted, as vectorised minima and maxima over
whole rows of the block. Blocks of other libraries use that library's sort.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import array_api_compat
import numpy as np

from byzflow.kernels import native
from byzflow.kernels.rows import Array

__all__ = (
    "lower_median",
    "mean",
    "mean_around",
    "mean_std",
    "median_anchor",
    "network",
    "order",
    "trimmed_mean",
)


@lru_cache(maxsize=256)
def network(n: int, first: int, last: int) -> np.ndarray:
    """Return the comparators that put ranks ``first : last`` of n values in their places.

    Batcher's odd-even merge sort, without the comparators that no wanted rank depends on; O(n log² n).

    Examples
    --------
    >>> network(3, 0, 3).tolist()
    [[0, 1], [0, 2], [1, 2]]
    """
    comparators = []
    p = 1
    while p < n:
        k = p
        while k:
            for j in range(k % p, n - k, 2 * k):
                for i in range(j, min(j + k, n - k)):
                    if i // (2 * p) == (i + k) // (2 * p):
                        comparators.append((i, i + k))
            k //= 2
        p *= 2
    wanted = set(range(first, last))
    kept = []
    for low, high in reversed(comparators):
        if low in wanted or high in wanted:
            wanted |= {low, high}
            kept.append((low, high))
    return np.array(kept[::-1], np.int64).reshape(-1, 2)


@lru_cache(maxsize=256)
def _prepared(n: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    comparators = network(n, first, last)
    return comparators, native.steps(comparators)


def order(X: Array, first: int = 0, last: int | None = None) -> Array:
    """Sort the columns of X so far that rows ``first : last`` hold what a full sort would put there.

    Examples
    --------
    >>> order(np.array([[3.0], [np.nan], [1.0]])).ravel()
    array([ 1.,  3., nan])
    """
    n = X.shape[0]
    if isinstance(X, np.ndarray):
        X = _rowwise(X)
        native.compare_exchange(X, *_prepared(n, first, n if last is None else last))
        return X
    xp = array_api_compat.array_namespace(X)
    # The standard leaves the place of NaN open: sort +inf in its stead, then put NaN behind it.
    missing = xp.sum(xp.astype(xp.isnan(X), xp.int64), axis=0)
    ranked = xp.sort(xp.where(xp.isnan(X), _full(xp, X, np.inf), X), axis=0)
    place = xp.reshape(xp.arange(n, dtype=xp.int64, device=array_api_compat.device(X)), (n, 1))
    return xp.where(place >= n - missing, _full(xp, X, np.nan), ranked)


def lower_median(X: Array) -> Array:
    """Return the lower of the two middle values of every column, shape ``(w,)``.

    Examples
    --------
    >>> lower_median(np.array([[1.0], [2.0], [3.0], [10.0]]))
    array([2.])
    """
    middle = (X.shape[0] - 1) // 2
    return order(X, middle, middle + 1)[middle, :]


def median_anchor(X: Array) -> Array:
    """Return the lower median of every column, or 0 where that is not finite; shape ``(w,)``.

    The point that rules with a median start begin at, and the Gram matrix and the combination agree on.
    """
    median = lower_median(X)
    xp = array_api_compat.array_namespace(median)
    return xp.where(xp.isfinite(median), median, xp.zeros_like(median))


def mean(X: Array, first: int = 0, last: int | None = None) -> Array:
    """Average rows ``first : last`` of X; shape ``(w,)``."""
    last = X.shape[0] if last is None else last
    if isinstance(X, np.ndarray):
        out = np.empty(X.shape[1], X.dtype)
        native.row_mean(_rowwise(X), first, last, out)
        return out
    xp = array_api_compat.array_namespace(X)
    return xp.mean(X[first:last, :], axis=0)


def trimmed_mean(X: Array, f: int) -> Array:
    """Average what is left of every column without its f lowest and f highest values; shape ``(w,)``.

    Examples
    --------
    >>> trimmed_mean(np.array([[np.inf], [1.0], [3.0], [-9.0]]), 1)
    array([2.])
    """
    n = X.shape[0]
    return mean(order(X, f, n - f), f, n - f)


def mean_around(X: Array, centre: Array, keep: int) -> Array:
    """Average the `keep` values of every *sorted* column that are nearest `centre`; shape ``(w,)``.

    Of two equally far values at the cut the lower one stays, so the answer does not depend on row order.

    Examples
    --------
    >>> mean_around(np.array([[1.0], [2.0], [3.0], [10.0]]), np.array([2.0]), 3)
    array([2.])
    """
    n = X.shape[0]
    if isinstance(X, np.ndarray):
        out = np.empty(X.shape[1], X.dtype)
        native.mean_around(_rowwise(X), np.ascontiguousarray(centre), keep, out)
        return out
    xp = array_api_compat.array_namespace(X)
    first = xp.zeros(X.shape[1], dtype=xp.int64, device=array_api_compat.device(X))
    for k in range(n - keep):
        moves = (first == k) & (centre - X[k, :] > X[k + keep, :] - centre)
        first = xp.where(moves, first + 1, first)
    place = xp.reshape(xp.arange(n, dtype=xp.int64, device=array_api_compat.device(X)), (n, 1))
    inside = (place >= first) & (place < first + keep)
    return xp.sum(xp.where(inside, X, _full(xp, X, 0.0)), axis=0) / keep


def mean_std(X: Array, scale: float) -> Array:
    """Return mean + `scale` * population standard deviation of every column's finite values; ``(w,)``.

    Examples
    --------
    >>> mean_std(np.array([[1.0], [3.0]]), 2.0)
    array([4.])
    """
    if isinstance(X, np.ndarray):
        out = np.empty(X.shape[1], X.dtype)
        native.mean_std(_rowwise(X), scale, out)
        return out
    xp = array_api_compat.array_namespace(X)
    here = xp.isfinite(X)
    zero = _full(xp, X, 0.0)
    count = xp.sum(xp.astype(here, X.dtype), axis=0)
    count = xp.where(count == 0, xp.ones_like(count), count)
    average = xp.sum(xp.where(here, X, zero), axis=0) / count
    gap = xp.where(here, X - average, zero)
    return average + scale * xp.sqrt(xp.sum(gap * gap, axis=0) / count)


def _rowwise(X: np.ndarray) -> np.ndarray:
    """Return X, or a copy if its rows are not contiguous, which the compiled loops need."""
    return X if X.strides[1] == X.itemsize else np.ascontiguousarray(X)


def _full(xp: Any, X: Array, value: float) -> Array:
    return xp.full_like(X, value)
