"""Krum and Multi-Krum: rows with close neighbours."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np

from byzflow.aggregators.base import LinearAggregator
from byzflow.exceptions import ToleranceError
from byzflow.kernels.small import compiled, dot
from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, positive, tolerates
from byzflow.operators.geometry import Geometry

__all__ = ("Krum", "MultiKrum", "krum_scores")


def krum_scores(sq_distances: np.ndarray, f: int) -> np.ndarray:
    """Return each row's sum of squared distances to the ``n - f - 1`` rows nearest to it, (n,).

    Parameters
    ----------
    sq_distances : ndarray, (n, n)
        Squared distances with a zero diagonal.
    f : int
        Byzantine rows tolerated.

    Examples
    --------
    >>> krum_scores(np.array([[0.0, 1.0, 9.0], [1.0, 0.0, 4.0], [9.0, 4.0, 0.0]]), f=1)
    array([1., 1., 4.])
    """
    scores: np.ndarray = _sums(np.sort(sq_distances, axis=1), len(sq_distances) - f)
    return scores


@compiled
def _sums(ascending: np.ndarray, k: int) -> np.ndarray:
    """Return the sum of the first k entries of every row."""
    sums, ones = np.empty(len(ascending)), np.ones(k)
    for i in range(len(ascending)):
        sums[i] = dot(ascending[i, :k], ones)
    return sums


def _average_of_best(geometry: Geometry, f: int, q: int, rule: str) -> np.ndarray:
    geometry.require_finite(geometry.n - f, rule)
    weights = np.zeros(geometry.n)
    weights[geometry.rank(krum_scores(geometry.sq_distances, f))[:q]] = 1.0 / q
    return weights


@frozen
class MultiKrum(LinearAggregator):
    """Average the q rows with the lowest Krum scores.

    ``score_i`` is the sum of the ``n - f - 1`` smallest squared distances from row i to other rows. Low
    scores mean many close neighbours, which f liars cannot have without being close to honest rows
    themselves. Equal scores: the lower node index comes first.

    Parameters
    ----------
    f : int
        Byzantine rows tolerated; ``0 <= f < n - 1``, checked at call.
    q : int
        Rows to average; ``1 <= q <= n - f``.
    chunk_size : int, default 32
        Scheduling hint [rows]; never changes the result.

    Raises
    ------
    ToleranceError
        If ``f >= n - 1`` or ``q > n - f``, or if fewer than ``n - f`` rows are finite.

    Notes
    -----
    Gram-space: one pass for the distances, O(n**2 d), O(n**2 log n) to choose, and one pass for the mean,
    O(q d). Memory O(n**2) beyond the input. The paper sums ``n - f - 2`` distances and asks for
    ``2 f + 2 < n``; one neighbour more is what the wider literature's code uses.

    References
    ----------
    .. [1] Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine learning with adversaries: Byzantine tolerant
       gradient descent", NeurIPS 2017.

    Examples
    --------
    >>> MultiKrum(f=1, q=2).aggregate([np.zeros(3), np.ones(3), np.ones(3), np.full(3, 9.0)])
    array([1., 1., 1.])
    """

    f: int
    q: int
    chunk_size: int = field(default=32, kw_only=True)
    name: ClassVar[str] = "multi-krum"

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        positive("q", self.q)
        positive("chunk_size", self.chunk_size)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless ``f < n - 1`` and ``q <= n - f``."""
        if self.f >= n - 1 or self.q > n - self.f:
            raise ToleranceError(
                f"MultiKrum needs f < n - 1 and q <= n - f; got f={self.f}, q={self.q}, n={n}. "
                f"Lower f or q, or add nodes."
            )

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return 1 / q for the q rows with the lowest scores."""
        return _average_of_best(geometry, self.f, self.q, "MultiKrum")


@frozen
class Krum(LinearAggregator):
    """Return the row with the lowest Krum score.

    The row whose ``n - f - 1`` nearest other rows have the least sum of squared distances to it:
    `MultiKrum` with ``q = 1``. The result is always one of the rows.

    Parameters
    ----------
    f : int
        Byzantine rows tolerated; ``0 <= f < n - 1``, checked at call.
    chunk_size : int, default 32
        Scheduling hint [rows]; never changes the result.

    Raises
    ------
    ToleranceError
        If ``f >= n - 1``, or if fewer than ``n - f`` rows are finite.

    Notes
    -----
    Gram-space: one pass for the distances, O(n**2 d), and one to copy the row, O(d). Memory O(n**2) beyond
    the input.

    References
    ----------
    .. [1] Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine learning with adversaries: Byzantine tolerant
       gradient descent", NeurIPS 2017.

    Examples
    --------
    >>> Krum(f=1).aggregate([np.zeros(2), np.full(2, 1.0), np.full(2, 1.5), np.full(2, 9.0)])
    array([1., 1.])
    """

    f: int
    chunk_size: int = field(default=32, kw_only=True)
    name: ClassVar[str] = "krum"

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        positive("chunk_size", self.chunk_size)

    @property
    def krum(self) -> MultiKrum:
        """The `MultiKrum` with ``q = 1`` that gives the same row."""
        return MultiKrum(f=self.f, q=1, chunk_size=self.chunk_size)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless ``f < n - 1``."""
        tolerates(self, self.f < n - 1, "f < n - 1", n)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return 1 for the row with the lowest score."""
        return _average_of_best(geometry, self.f, 1, "Krum")
