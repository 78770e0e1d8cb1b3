"""What every definition needs: which rows are finite, norms, distances by subtraction."""

from __future__ import annotations

import numpy as np

__all__ = ("finite_rows", "nearest", "norms", "ranked", "row_distances", "squared_distances")


def finite_rows(X):
    return np.isfinite(X).all(axis=1)


def norms(X):
    """Norm of each row; +inf for a row that is not finite."""
    out = np.full(len(X), np.inf)
    good = finite_rows(X)
    out[good] = np.linalg.norm(X[good], axis=1)
    return out


def row_distances(X, point):
    """Distance of each row to a point; +inf for a row that is not finite."""
    out = np.full(len(X), np.inf)
    good = finite_rows(X)
    out[good] = np.linalg.norm(X[good] - point, axis=1)
    return out


def squared_distances(X):
    """All pairs, by subtraction; +inf to, from and between rows that are not finite."""
    out = np.full((len(X), len(X)), np.inf)
    for i in np.flatnonzero(finite_rows(X)):
        good = finite_rows(X)
        out[i, good] = ((X[good] - X[i]) ** 2).sum(axis=1)
    return out


def ranked(values):
    """Indices in ascending order, equal values by index."""
    return sorted(range(len(values)), key=lambda i: (values[i], i))


def nearest(X, i, k):
    """Indices of the k rows nearest to row i, itself first; all finite rows tie if row i is not finite."""
    good = finite_rows(X)
    distance = row_distances(X, X[i]) if good[i] else np.where(good, 0.0, np.inf)
    if good[i]:
        distance[i] = -1.0
    return ranked(distance)[:k]
