"""The Gram matrix of mixed rows, about an origin that keeps their digits."""

from __future__ import annotations

import numpy as np

from byzflow.kernels.native.order import nth
from byzflow.kernels.native.products import write_cross_products
from byzflow.kernels.small import compiled, is_sparse, multiply_sparse, transposed

__all__ = ("mixed_gram",)


def mixed_gram(W: np.ndarray, gram: np.ndarray, finite: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return inner products of the k rows of W X and the zero, (k + 1, k + 1), and squared norms, (k,).

    The new origin is ``s r``, with s the lower median of the row sums of W.

    Parameters
    ----------
    W : ndarray, (k, n) float64
        Weights.
    gram : ndarray, (n + 1, n + 1) float64
        Inner products of n rows, and of the zero after them, about an origin r.
    finite : ndarray, (k,) bool
        Which rows of W X are finite; the squared norms of others are +inf.

    Examples
    --------
    >>> mixed_gram(np.ones((1, 2)), np.diag([1.0, 4.0, 0.0]), np.ones(1, np.bool_))[1]
    array([5.])
    """
    return _mixed(np.ascontiguousarray(W), np.ascontiguousarray(gram), finite)


@compiled
def _mixed(W: np.ndarray, gram: np.ndarray, finite: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    k, n = W.shape
    sums = np.empty(k)
    for i in range(k):
        sums[i] = W[i].sum()
    shift = _lower_median(sums, finite)
    V = _with_zero(W, sums, finite, shift)
    half, out = np.empty((k + 1, n + 1)), np.empty((k + 1, k + 1))
    if is_sparse(V):
        multiply_sparse(V, gram, half)
        multiply_sparse(V, transposed(half), out)
    else:
        write_cross_products(V, gram, half)  # which is symmetric
        write_cross_products(V, half, out)
    return out, _settled(out, half, finite, shift, gram[-1, -1])


@compiled
def _lower_median(sums: np.ndarray, finite: np.ndarray) -> float:
    """Return the lower median of the sums of finite rows; 1 if there is none."""
    known = sums[finite]
    return float(nth(known, (len(known) - 1) // 2)) if len(known) else 1.0


@compiled
def _with_zero(W: np.ndarray, sums: np.ndarray, finite: np.ndarray, shift: float) -> np.ndarray:
    """Return W with one more row and column for the zero, so that each row sums to `shift`."""
    k, n = W.shape
    V = np.zeros((k + 1, n + 1))
    for i in range(k):
        row, weights = V[i], W[i]
        for j in range(n):
            row[j] = weights[j]
        row[n] = shift - sums[i] if finite[i] else 0.0
    V[k, n] = shift
    return V


@compiled
def _settled(gram: np.ndarray, half: np.ndarray, finite: np.ndarray, shift: float, zero: float) -> np.ndarray:
    """Make the Gram matrix symmetric; return the squared norms of its rows, moved by `shift` zeros."""
    k = len(finite)
    for i in range(k + 1):
        for j in range(i):
            gram[i, j] = gram[j, i] = (gram[i, j] + gram[j, i]) * 0.5
    norms = np.empty(k)
    for i in range(k):
        square = gram[i, i] - 2.0 * shift * half[i, -1] + shift * shift * zero
        norms[i] = max(square, 0.0) if finite[i] else np.inf
    return norms
