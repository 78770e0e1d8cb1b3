"""Minimum-variance averaging: the n - f rows of least total variance."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from byzflow.aggregators.base import LinearAggregator
from byzflow.aggregators.geometric_wise._least_variance import least_variance
from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, tolerates
from byzflow.operators.geometry import Geometry

__all__ = ("MinimumVarianceAveraging",)


@frozen
class MinimumVarianceAveraging(LinearAggregator):
    """Average the ``n - f`` rows with the least total variance (MVA).

    ``out = mean(S)`` with S the subset of ``n - f`` rows that minimises
    ``1/|S| sum_{i in S} |x_i - mean(S)|**2``; among equally good subsets the first in lexicographic order of
    node indices. Exact, without enumeration.

    Parameters
    ----------
    f : int
        Byzantine rows tolerated; ``2 f < n``, checked at call.

    Raises
    ------
    ToleranceError
        If ``2 f >= n``, or if fewer than ``n - f`` rows are finite.

    Notes
    -----
    Gram-space: one pass for the distances, O(n**2 d), and one for the mean, O((n - f) d). Memory O(n**2)
    beyond the input. The subset is found by branch and bound: milliseconds where d is large or liars
    stand out; at worst exponential in f. The worst that is known for n = 30, f = 8 takes about a second:
    rows in cycles, far from their two neighbours there and near all others. Interruptible by Ctrl-C.

    References
    ----------
    .. [1] Farhadkhani, Guerraoui, Gupta, Pinot, Stephan, "Byzantine machine learning made easy by resilient
       averaging of momentums", ICML 2022.

    Examples
    --------
    >>> MinimumVarianceAveraging(f=1).aggregate([np.zeros(2), np.full(2, 9.0), np.ones(2)])
    array([0.5, 0.5])
    """

    f: int
    name: ClassVar[str] = "minimum-variance-averaging"

    def __post_init__(self) -> None:
        nonnegative("f", self.f)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless ``2 f < n``."""
        tolerates(self, 2 * self.f < n, "2 f < n", n)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return equal weights for the rows of the best subset."""
        m = geometry.n - self.f
        geometry.require_finite(m, "MinimumVarianceAveraging")
        finite = np.flatnonzero(geometry.finite)
        subset = least_variance(geometry.sq_distances[np.ix_(finite, finite)], m)
        weights = np.zeros(geometry.n)
        weights[finite[subset]] = 1.0 / m
        return weights
