"""The best subset that a search for the least top eigenvalue has found, and what may still be of interest."""

from __future__ import annotations

import numpy as np
import torch

from byzflow.kernels.small import cholesky_solve, compiled

__all__ = ("Best",)

_TIE = 1e-10
"""Eigenvalues that differ by less than this, relatively, are equal."""

_LESS = 5e-12
"""By how much, relatively, an eigenvalue must be smaller to be looked for: ties are no progress."""

_FIRST = 4
"""Subsets, the smallest, whose eigenvalues are found first: most others turn out to be worse without."""

_CLEAR, _ROUNDED = 1e-9, 1e-13
"""How far above the limit a subset is surely worse: relatively, and for each point relative to its square."""


class Best:
    """The best subset so far; `value` is the top eigenvalue of its scatter (m times the covariance).

    `twins`, (n, n) bool, says which points are the same. What is `wanted` is the "only" best subset, until
    another one `is_tied` with it; then one of the "least" value; and when that is known, the "first" of them.
    """

    def __init__(self, gram: np.ndarray, m: int) -> None:
        self.gram, self.m = gram, m
        _, place = np.unique(gram, axis=0, return_inverse=True)
        self.twins: np.ndarray = np.equal.outer(place.reshape(-1), place.reshape(-1))
        self.value = np.inf
        self.rows: tuple[int, ...] = ()
        self.wanted, self.is_tied = "only", False

    @property
    def limit(self) -> float:
        """The top eigenvalue up to which a subset is of interest."""
        return self.value * (1.0 - _LESS if self.wanted == "least" else 1.0 + _TIE)

    def offer(self, masks: np.ndarray) -> None:
        """Take the best of the subsets, (B, n) bool, if it is better; or the first, if it is as good."""
        if self.wanted == "first":
            masks = masks[[_rows_of(mask) < self.rows for mask in masks]]
        if len(masks) == 0:
            return
        inside = np.nonzero(masks)[1].reshape(-1, self.m)
        values = self._values(inside)
        if self.wanted == "first":
            self.rows = min([self.rows, *map(_rows_of, masks[values <= self.limit])])
            return
        before = self.rows if self.value <= values.min() * (1.0 + _TIE) else None
        if values.min() < self.value:
            self.value, self.rows = float(values.min()), _rows_of(masks[values.argmin()])
        equal = {before or self.rows, *map(_rows_of, masks[values <= self.limit])}
        self.is_tied |= len(equal) > 1

    def _values(self, inside: np.ndarray) -> np.ndarray:
        """Return the top eigenvalues of the scatters of subsets, (B, m) int; inf where surely not wanted."""
        values, left, limit = np.full(len(inside), np.inf), np.arange(len(inside)), self.limit
        while len(left):
            sizes = _sizes(self.gram, inside[left], limit)
            left = left[np.argsort(sizes, kind="stable")[: np.count_nonzero(sizes < np.inf)]]
            now, left = left[:_FIRST], left[_FIRST:]
            if len(now) == 0:
                break
            grams = self.gram[inside[now, :, None], inside[now, None, :]]
            values[now] = torch.linalg.eigvalsh(torch.from_numpy(_about_mean(grams)))[:, -1].numpy()
            if self.wanted != "first":
                limit = min(limit, float(values.min()) * (1.0 + _TIE))
        return values

    def may_hold(self, bound: np.ndarray, pool: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return which of B nodes, whose values are at least `bound`, may hold a subset of interest."""
        open_: np.ndarray = bound <= self.limit
        for i in np.flatnonzero(open_) if self.wanted == "first" else ():
            open_[i] = _first_completion(pool[i], kept[i], self.m) < self.rows
        return open_

    def is_point(self) -> bool:
        """Whether the subset's points agree to rounding, so that nothing can be better."""
        rows = list(self.rows)
        return bool(self.value <= 1e-14 * self.m * self.gram[rows, rows].max())


def _about_mean(grams: np.ndarray) -> np.ndarray:
    """Return Gram matrices of subsets, (B, m, m), about the subsets' means."""
    mean = grams.mean(axis=2)
    C: np.ndarray = grams - mean[:, :, None]
    C -= mean[:, None, :]
    C += mean.mean(axis=1)[:, None, None]
    return C


@compiled
def _sizes(gram: np.ndarray, inside: np.ndarray, limit: float) -> np.ndarray:
    """Return the squared Frobenius norms of the scatters of subsets, as a guess at their eigenvalues.

    Inf where the top eigenvalue is surely above the limit: what the scatter lacks of that is not definite.
    """
    B, m = inside.shape
    lack, mean, nothing, sizes = np.empty((m, m)), np.empty(m), np.zeros(m), np.zeros(B)
    for b in range(B):
        rows, square, largest = inside[b], 0.0, 0.0
        for i in range(m):
            mean[i] = 0.0
            for j in range(m):
                mean[i] += gram[rows[i], rows[j]] / m
            square += mean[i] / m
            largest = max(largest, gram[rows[i], rows[i]])
        for i in range(m):
            for j in range(i + 1):
                lack[i, j] = mean[i] + mean[j] - square - gram[rows[i], rows[j]]
                sizes[b] += lack[i, j] ** 2 * (1.0 if i == j else 2.0)
            lack[i, i] += limit * (1.0 + _CLEAR) + _ROUNDED * m * largest
        if limit < np.inf and not cholesky_solve(lack, nothing):
            sizes[b] = np.inf
    return sizes


def _rows_of(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def _first_completion(pool: np.ndarray, kept: np.ndarray, m: int) -> tuple[int, ...]:
    free = np.flatnonzero(pool & ~kept)[: m - int(kept.sum())]
    return tuple(sorted((*np.flatnonzero(kept).tolist(), *free.tolist())))
