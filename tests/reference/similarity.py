"""Definitions that compare directions: histories, shares of signs, clusters of cosines."""

from __future__ import annotations

import numpy as np

from tests.reference.finite import finite_rows, norms

__all__ = ("clipped_clustering", "fools_gold", "sign_guard")


def _cosine(x, y):
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    return x @ y / lengths if lengths > 0 else 0.0


def fools_gold(X, *, confidence=1.0):
    """A first round: 1 - the largest pardoned cosine of the rows, as a logit (Fung et al. 2020)."""
    good = finite_rows(X)
    rows, n = np.where(good[:, None], X, 0.0), len(X)
    cs = np.array([[_cosine(rows[i], rows[j]) if i != j else 0.0 for j in range(n)] for i in range(n)])
    v = np.maximum(cs.max(axis=1), 0.0)
    pardoned = cs.copy()
    for i in range(n):
        for j in range(n):
            if v[j] > v[i]:
                pardoned[i, j] = cs[i, j] * v[i] / v[j]
    alpha = np.clip(1 - pardoned.max(axis=1), 0, 1) * good
    if alpha.max() <= 1e-12:
        return np.zeros(X.shape[1])
    alpha = alpha / alpha.max()
    with np.errstate(divide="ignore"):
        alpha = np.clip(confidence * (np.log(alpha / (1 - alpha)) + 0.5), 0, 1)
    return alpha @ rows / alpha.sum() if alpha.sum() > 0 else np.zeros(X.shape[1])


def _mean_shift(points):
    """Who comes to rest with whom; the bandwidth is the mean distance to the middle neighbour."""
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    bandwidth = np.sort(apart, axis=1)[:, max(1, len(points) // 2) - 1].mean()
    if bandwidth == 0.0:
        return apart == 0.0
    rest = points.copy()
    for _ in range(300):
        for i, p in enumerate(rest):
            near = points[np.linalg.norm(points - p, axis=1) <= bandwidth]
            rest[i] = near.mean(axis=0)
    return np.linalg.norm(rest[:, None] - rest[None], axis=2) <= bandwidth


def sign_guard(X, *, low=0.1, high=3.0):
    """Usual length and usual shares of signs; clipped to the median norm (Xu et al. 2022)."""
    length = norms(X)
    M = np.sort(length)[(len(X) - 1) // 2]
    good = np.flatnonzero(finite_rows(X))
    shares = np.array([[(X[i] > 0).mean(), (X[i] < 0).mean(), (X[i] == 0).mean()] for i in good])
    together = _mean_shift(shares)
    alike = set(good[together[np.argmax(together.sum(axis=1))]])
    usual = [i for i in good if low * M <= length[i] <= high * M]
    kept = [i for i in usual if i in alike] or usual
    return sum(X[i] * min(1.0, M / max(length[i], 1e-300)) for i in kept) / len(kept)


def clipped_clustering(X):
    """Clip to the median norm; mean of the larger of two clusters of directions (Li et al. 2023)."""
    good = list(np.flatnonzero(finite_rows(X)))
    M = np.sort(np.linalg.norm(X[good], axis=1))[(len(good) - 1) // 2]
    clusters = [[i] for i in good]

    def gap(pair):
        a, b = pair
        return np.mean([1 - _cosine(X[i], X[j]) for i in clusters[a] for j in clusters[b]])

    while len(clusters) > 2:
        pairs = [(a, b) for a in range(len(clusters)) for b in range(a + 1, len(clusters))]
        a, b = min(pairs, key=gap)
        clusters[a] += clusters.pop(b)
    kept = max(clusters, key=lambda cluster: (len(cluster), -min(cluster)))
    return sum(X[i] * min(1.0, M / max(np.linalg.norm(X[i]), 1e-300)) for i in kept) / len(kept)
