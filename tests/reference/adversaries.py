"""Definitions of the attacks that fit themselves to the honest rows."""

from __future__ import annotations

import numpy as np

from tests.reference.distances import krum, krum_scores
from tests.reference.finite import squared_distances

__all__ = ("fang_krum", "min_max", "min_sum", "scaled_sign_flip")


def scaled_sign_flip(X, *, f):
    """-(h / f) * mean: the sum of all rows becomes zero (Farhadkhani et al. 2023)."""
    return -len(X) / f * X.mean(axis=0)


def _direction(X, kind):
    mu = X.mean(axis=0)
    return {"unit": mu / (np.linalg.norm(mu) or 1.0), "sign": np.sign(mu), "std": X.std(axis=0)}[kind]


def min_max(X, *, direction="std"):
    """mean - gamma p, no farther from any row than two rows are apart (Shejwalkar and Houmansadr 2021)."""
    p, mu = _direction(X, direction), X.mean(axis=0)
    if not p.any():
        return mu
    radius = max(((x - y) ** 2).sum() for x in X for y in X)
    gammas = []
    for x in X:
        u = mu - x
        b = u @ p
        gammas.append((b + np.sqrt(b * b - (p @ p) * (u @ u - radius))) / (p @ p))
    return mu - min(gammas) * p


def min_sum(X, *, direction="std"):
    """mean - gamma p, total squared distance no greater than a row's (Shejwalkar and Houmansadr 2021)."""
    p, mu = _direction(X, direction), X.mean(axis=0)
    if not p.any():
        return mu
    most = max(((X - x) ** 2).sum() for x in X)
    gamma = np.sqrt(max(0.0, most - ((X - mu) ** 2).sum()) / (len(X) * (p @ p)))
    return mu - gamma * p


def fang_krum(X, *, f):
    """-lambda sign(Krum's pick), lambda halved until Krum picks f copies, then bisected (Fang et al.)."""
    direction, h = np.sign(krum(X, f=f)), len(X)
    if not direction.any():
        return X[0] * 0.0

    def picked(step):
        scores = krum_scores(np.vstack([X, *[-step * direction] * f]), f)
        return scores[-1] < min(scores[: len(X)])

    diameter = np.sqrt(squared_distances(X).max())
    too_large = np.linalg.norm(X, axis=1).max() + diameter * np.sqrt((h - 1) / (h - f))
    low, high = 2 * [too_large / np.linalg.norm(direction)]
    for _ in range(60):
        low, high = low / 2, low
        if picked(low):
            break
    else:
        return -low * direction
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if picked(middle) else (low, middle)
    return -low * direction
