"""Definitions of the attacks that fit themselves to the honest rows."""

from __future__ import annotations

import numpy as np

from tests.reference.distances import krum, krum_scores

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
    """-lambda sign(Krum's pick), the largest lambda that it picks among f copies (Fang et al. 2020)."""
    direction = np.sign(krum(X, f=f))

    def picked(step):
        scores = krum_scores(np.vstack([X, *[-step * direction] * f]), f)
        return scores[-1] < min(scores[: len(X)])

    step = 1e3 * np.abs(X).max()
    while not picked(step):
        step /= 1.01
        if step < 1e-12:
            return X[0] * 0.0
    low, high = step, step * 1.01
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if picked(middle) else (low, middle)
    return -low * direction
