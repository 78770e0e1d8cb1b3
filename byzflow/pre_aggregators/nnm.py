"""Nearest-neighbour mixing: every row becomes the mean of its neighbours."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np

from byzflow.kernels.small import compiled
from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, positive, tolerates
from byzflow.operators.geometry import Geometry
from byzflow.pre_aggregators.base import LinearPreAggregator

__all__ = ("NearestNeighborMixing",)


@frozen
class NearestNeighborMixing(LinearPreAggregator):
    """Replace every row by the mean of the ``n - f`` rows nearest to it, itself included.

    Makes robust rules optimal where honest nodes have different data. Equal distances: the lower node index
    comes first. Every other row is infinitely far from one that is not finite, so that one becomes the mean
    of the ``n - f`` lowest finite rows.

    Parameters
    ----------
    f : int
        Byzantine rows tolerated; ``f < n``, checked at call.
    feature_chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ToleranceError
        If ``f >= n``, or if fewer than ``n - f`` rows are finite.

    Notes
    -----
    Gram-space: one pass for the distances and one for n means, O(n**2 d) each. Memory O(n**2) beyond input
    and output.

    References
    ----------
    .. [1] Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan, "Fixing by mixing: A recipe for optimal
       Byzantine ML under heterogeneity", AISTATS 2023.

    Examples
    --------
    >>> NearestNeighborMixing(f=1).pre_aggregate([np.zeros(1), np.ones(1), np.full(1, 9.0)])
    [array([0.5]), array([0.5]), array([5.])]
    """

    f: int
    feature_chunk_size: int = field(default=8192, kw_only=True)
    name: ClassVar[str] = "pre-agg/nnm"

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        positive("feature_chunk_size", self.feature_chunk_size)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless ``f < n``."""
        tolerates(self, self.f < n, "f < n", n)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return one row of equal weights for each neighbourhood."""
        n = geometry.n
        k = n - self.f
        geometry.require_finite(k, "NearestNeighborMixing")
        D = geometry.sq_distances
        D.ravel()[:: n + 1] = -1.0
        if np.count_nonzero(geometry.finite) < n:
            D[~geometry.finite] = np.where(geometry.finite, 0.0, np.inf)
        return _shares(D, np.partition(D, k - 1, axis=1)[:, k - 1], k)


@compiled
def _shares(values: np.ndarray, limits: np.ndarray, k: int) -> np.ndarray:
    """Return 1 / k for the k smallest entries of every row, whose k-th is given, ties to the lower index."""
    W = np.empty(values.shape)
    for i in range(len(values)):
        row, weights, limit, count = values[i], W[i], limits[i], 0
        for j in range(len(row)):
            weights[j] = 1.0 / k if row[j] <= limit else 0.0
            count += row[j] <= limit
        last = len(row)
        while count > k:
            last -= 1
            if row[last] == limit:
                weights[last] = 0.0
                count -= 1
    return W
