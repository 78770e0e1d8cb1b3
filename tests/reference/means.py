"""Definitions that weigh rows: geometric median, centered clipping, filters on the covariance, norms."""

from __future__ import annotations

import numpy as np

from tests.reference.columns import lower_median
from tests.reference.finite import finite_rows, norms, ranked, row_distances

__all__ = (
    "average",
    "caf",
    "centered_clipping",
    "comparative_gradient_elimination",
    "geometric_median",
)


def average(X):
    """Mean of the rows that are finite."""
    return X[finite_rows(X)].mean(axis=0)


def comparative_gradient_elimination(X, *, f):
    """Mean of the n - f rows with the smallest norms (Gupta, Liu and Vaidya 2020)."""
    return X[ranked(norms(X))[: len(X) - f]].mean(axis=0)


def _pull(rows, k):
    """Sum of the unit vectors from row k to the others, and the rows that lie on it (Vardi, Zhang 2000)."""
    away = rows - rows[k]
    lengths = np.linalg.norm(away, axis=1)
    apart = lengths > 0
    return np.linalg.norm((away[apart] / lengths[apart, None]).sum(axis=0)), np.count_nonzero(~apart)


def geometric_median(X, *, init="median", **_tuning):
    """The point with the least sum of distances: an optimal row if there is one, else a zero of the gradient.

    Where the optimum is a whole segment (an even number of rows on a line) it is the end nearer to the start.
    """
    rows = X[finite_rows(X)]
    start = (lower_median(rows) if init == "median" else rows.mean(axis=0)) + 0.0
    optimal = [x for k, x in enumerate(rows) if np.less_equal(*_pull(rows, k))]
    if optimal:
        return min(optimal, key=lambda x: np.linalg.norm(x - start))
    z = rows.mean(axis=0)
    if (rows == z).all(axis=1).any():
        z = (z + rows[0]) / 2  # no iteration leaves a row by itself
    for _ in range(2000):
        w = 1.0 / np.maximum(np.linalg.norm(rows - z, axis=1), 1e-300)
        moved = (w / w.sum()) @ rows
        step = np.linalg.norm(moved - z)
        z = moved
        if step <= 1e-14 * np.linalg.norm(z):
            return z
    return _newton(rows, z) if np.abs(rows).max() < 1e30 else z


def _newton(rows, z):
    """Polish a near-optimum that Weiszfeld's steps approach too slowly, in coordinates of the rows' span."""
    basis, _ = np.linalg.qr((rows - z).T)
    points = (rows - z) @ basis
    u = np.zeros(points.shape[1])
    best = np.linalg.norm(points, axis=1).sum()
    for _ in range(50):
        away = points - u
        r = np.linalg.norm(away, axis=1)
        units = away / r[:, None]
        hessian = (np.eye(len(u)) * (1 / r).sum()) - (units.T / r) @ units
        step = np.linalg.solve(hessian, units.sum(axis=0))
        while (total := np.linalg.norm(points - u - step, axis=1).sum()) > best * (1 + 1e-15):
            step = step / 2
            if np.linalg.norm(step) < 1e-300:
                return z + basis @ u
        u, best = u + step, total
    return z + basis @ u


def centered_clipping(X, *, c_tau, M=10, init="mean", eps=1e-12, **_):
    """v <- v + 1/n sum clip(x_i - v, c_tau), M times (Karimireddy, He and Jaggi 2021)."""
    good = finite_rows(X)
    starts = {"mean": average, "median": lower_median, "zero": lambda X: np.zeros(X.shape[1])}
    v = starts[init](X)
    for _ in range(M):
        shrink = np.minimum(1.0, c_tau / np.maximum(row_distances(X, v)[good], eps))
        v = v + (shrink @ (X[good] - v)) / len(X)
    return v


def caf(X, *, f, **_):
    """Covariance bound-agnostic filter with the exact top eigenpair (Allouah, Guerraoui and Stephan 2025).

    Rows whose weight is gone count too, but for `reach` times as much as the others at most, as we say.
    """
    n = len(X)
    reach = min(1e4, max(64.0, 1e7 / n**2))
    w = finite_rows(X).astype(float)
    rows = np.where(finite_rows(X)[:, None], X, 0.0)
    best, lowest = w @ rows / w.sum(), np.inf
    while w.sum() > n - 2 * f:
        mu = w @ rows / w.sum()
        C = np.sqrt(w)[:, None] * (rows - mu)
        values, vectors = np.linalg.eigh(C @ C.T)
        top = values[-1] / w.sum()
        if top < lowest:
            best, lowest = mu, top
        direction = C.T @ vectors[:, -1]
        length = np.linalg.norm(direction)
        tau = ((rows - mu) @ (direction / length)) ** 2 if length > 0 else np.zeros(n)
        tau[~finite_rows(X)] = 0.0
        near = tau[w > 1e-3].max()
        if near == 0:
            break
        w = w * np.maximum(1 - tau / min(tau.max(), reach * near), 0.0)
    return best
