"""Definitions that weigh rows by trust: in a reference, in a variance, in a radius."""

from __future__ import annotations

import numpy as np

from tests.reference.finite import finite_rows, row_distances

__all__ = ("filter_l2", "fl_trust", "smoothed_geometric_median")


def smoothed_geometric_median(X, *, nu=1e-6, T=3, node_weights=None):
    """T smoothed Weiszfeld steps from the origin (Pillutla, Kakade and Harchaoui 2022)."""
    good = finite_rows(X)
    a = (np.ones(len(X)) if node_weights is None else np.asarray(node_weights))[good]
    z = np.zeros(X.shape[1])
    for _ in range(T):
        b = a / np.maximum(nu, row_distances(X, z)[good])
        z = b @ X[good] / b.sum()
    return z


def filter_l2(X, *, sigma, expansion=20.0):
    """Weigh down along the top eigenvector until its variance is small (Steinhardt 2018)."""
    rows = X[finite_rows(X)]
    c = np.ones(len(rows))
    while True:
        mu = c @ rows / c.sum()
        C = np.sqrt(c)[:, None] * (rows - mu)
        values, vectors = np.linalg.eigh(C @ C.T / c.sum())
        if values[-1] <= expansion * sigma**2:
            return mu
        direction = C.T @ vectors[:, -1]
        tau = np.where(c > 0, ((rows - mu) @ (direction / np.linalg.norm(direction))) ** 2, 0.0)
        c = c * (1 - tau / tau.max())


def fl_trust(X, *, reference_index=0):
    """Rows scaled to a trusted row's norm, weighted by max(0, cosine) (Cao et al. 2021)."""
    g = X[reference_index]
    total, out = 0.0, np.zeros(X.shape[1])
    for i in np.flatnonzero(finite_rows(X)):
        length = np.linalg.norm(X[i])
        if i == reference_index or length == 0:
            continue
        trust = max(0.0, (X[i] / length) @ g / (np.linalg.norm(g) or 1.0))
        total += trust
        out += trust * np.linalg.norm(g) / length * X[i]
    return out / total if total > 0 else out
