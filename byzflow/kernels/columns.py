"""Order statistics down the columns of an (n, w) block, or of n rows where they lie; NaN after +inf.

In host memory compiled loops sort the columns tile by tile. Other libraries' blocks use their own sort.
"""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

from byzflow.kernels import native
from byzflow.kernels.rows import Array, Window

__all__ = (
    "lower_median",
    "majority",
    "mean_around_median",
    "mean_around_trimmed",
    "mean_std",
    "median_anchor",
    "order",
    "trimmed_mean",
)


def order(X: Array) -> Array:
    """Return the columns of a block sorted, by its own library.

    Examples
    --------
    >>> order(np.array([[3.0], [np.nan], [1.0]])).ravel()
    array([ 1.,  3., nan])
    """
    n = X.shape[0]
    xp = array_api_compat.array_namespace(X)
    # The standard leaves the place of NaN open: sort +inf in its stead, then put NaN behind it.
    missing = xp.sum(xp.astype(xp.isnan(X), xp.int64), axis=0)
    ranked = xp.sort(xp.where(xp.isnan(X), _full(xp, X, np.inf), X), axis=0)
    place = xp.reshape(xp.arange(n, dtype=xp.int64, device=array_api_compat.device(X)), (n, 1))
    return xp.where(place >= n - missing, _full(xp, X, np.nan), ranked)


def lower_median(X: Array | Window) -> Array:
    """Return the lower of the two middle values of every column, shape ``(w,)``.

    Examples
    --------
    >>> lower_median(np.array([[1.0], [2.0], [3.0], [10.0]]))
    array([2.])
    """
    middle = (X.shape[0] - 1) // 2
    return _mean(X, middle, middle + 1)


def median_anchor(X: Array | Window) -> Array:
    """Return the lower median of every column, or 0 where that is not finite; shape ``(w,)``.

    The point that rules with a median start begin at, and the Gram matrix and the combination agree on.
    """
    median = lower_median(X)
    xp = array_api_compat.array_namespace(median)
    return xp.where(xp.isfinite(median), median, xp.zeros_like(median))


def trimmed_mean(X: Array | Window, f: int) -> Array:
    """Average what is left of every column without its f lowest and f highest values; shape ``(w,)``.

    Examples
    --------
    >>> trimmed_mean(np.array([[np.inf], [1.0], [3.0], [-9.0]]), 1)
    array([2.])
    """
    return _mean(X, f, X.shape[0] - f)


def mean_around_median(X: Array | Window, keep: int) -> Array:
    """Average the `keep` values of every column that are nearest its lower median; shape ``(w,)``.

    Of two equally far values at the cut the lower one stays, so the answer does not depend on row order.

    Examples
    --------
    >>> mean_around_median(np.array([[3.0], [1.0], [10.0], [2.0]]), 3)
    array([2.])
    """
    middle = (X.shape[0] - 1) // 2
    return _mean_around(X, middle, middle + 1, keep)


def mean_around_trimmed(X: Array | Window, f: int, keep: int) -> Array:
    """Average the `keep` values of every column that are nearest its trimmed mean, likewise; shape ``(w,)``.

    Examples
    --------
    >>> mean_around_trimmed(np.array([[3.0], [1.0], [10.0], [2.0]]), 1, 3)
    array([2.])
    """
    return _mean_around(X, f, X.shape[0] - f, keep)


def majority(X: Array | Window) -> Array:
    """Return the sign that most values of every column have, 0 where as many have either; shape ``(w,)``.

    Examples
    --------
    >>> majority(np.array([[-9.0, np.nan], [1.0, 0.0], [3.0, -np.inf]]))
    array([ 1., -1.])
    """
    if (window := _window(X)) is not None:
        out = np.empty(window.shape[1], window.dtype)
        native.majority(window.addresses, window.start, out)
        return out
    xp = array_api_compat.array_namespace(X)
    signs = xp.sign(xp.where(xp.isnan(X), _full(xp, X, 0.0), X))
    return xp.sign(xp.sum(signs, axis=0))


def mean_std(X: Array | Window, scale: float) -> Array:
    """Return mean + `scale` * population standard deviation of every column's finite values; ``(w,)``.

    Examples
    --------
    >>> mean_std(np.array([[1.0], [3.0]]), 2.0)
    array([4.])
    """
    if (window := _window(X)) is not None:
        out = np.empty(window.shape[1], window.dtype)
        native.mean_std(window.addresses, window.start, scale, out)
        return out
    xp = array_api_compat.array_namespace(X)
    here = xp.isfinite(X)
    zero = _full(xp, X, 0.0)
    count = xp.sum(xp.astype(here, X.dtype), axis=0)
    count = xp.where(count == 0, xp.ones_like(count), count)
    average = xp.sum(xp.where(here, X, zero), axis=0) / count
    gap = xp.where(here, X - average, zero)
    return average + scale * xp.sqrt(xp.sum(gap * gap, axis=0) / count)


def _mean(X: Array | Window, first: int, last: int) -> Array:
    """Average ranks ``first : last`` of every column."""
    if (window := _window(X)) is not None:
        return _compiled(window, first, last, 0)
    xp = array_api_compat.array_namespace(X)
    return xp.mean(order(X)[first:last, :], axis=0)


def _mean_around(X: Array | Window, first: int, last: int, keep: int) -> Array:
    """Average the `keep` values of every column that are nearest the mean of its ranks ``first : last``.

    Which they are is decided in float64: rounding that mean could swap two of them.
    """
    if (window := _window(X)) is not None:
        return _compiled(window, first, last, keep)
    n = X.shape[0]
    xp = array_api_compat.array_namespace(X)
    dtype = X.dtype
    X = xp.astype(order(X), xp.float64)
    centre = xp.mean(X[first:last, :], axis=0)
    start = xp.zeros(X.shape[1], dtype=xp.int64, device=array_api_compat.device(X))
    for k in range(n - keep):
        moves = (start == k) & (centre - X[k, :] > X[k + keep, :] - centre)
        start = xp.where(moves, start + 1, start)
    place = xp.reshape(xp.arange(n, dtype=xp.int64, device=array_api_compat.device(X)), (n, 1))
    inside = (place >= start) & (place < start + keep)
    return xp.astype(xp.sum(xp.where(inside, X, _full(xp, X, 0.0)), axis=0) / keep, dtype)


def _compiled(window: Window, first: int, last: int, keep: int) -> np.ndarray:
    out = np.empty(window.shape[1], window.dtype)
    native.ranked_means(window.addresses, window.start, first, last, keep, out)
    return out


def _window(X: Array | Window) -> Window | None:
    """Return where compiled loops find X; None if it is no block in host memory."""
    if isinstance(X, np.ndarray):
        # Keys are made of the bits of these two alone.
        return Window.of(_rowwise(X if X.dtype in (np.float32, np.float64) else X.astype(np.float64)))
    return X if isinstance(X, Window) else None


def _rowwise(X: np.ndarray) -> np.ndarray:
    """Return X, or a copy if its rows are not contiguous, which the compiled loops need."""
    return X if X.strides[1] == X.itemsize else np.ascontiguousarray(X)


def _full(xp: Any, X: Array, value: float) -> Array:
    return xp.full_like(X, value)
