"""Comparative gradient elimination: the rows of smallest norm."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np

from byzflow.aggregators.base import LinearAggregator
from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, positive, tolerates
from byzflow.operators.geometry import Geometry

__all__ = ("ComparativeGradientElimination",)


@frozen
class ComparativeGradientElimination(LinearAggregator):
    """Average the ``n - f`` rows with the smallest norms.

    ``out = mean(x_(1), ..., x_(n-f))`` with ``|x_(1)| <= |x_(2)| <= ...``; equal norms: the lower node index
    comes first. Cheap, and blind to a liar who sends a short vector in a wrong direction.

    Parameters
    ----------
    f : int
        Byzantine rows tolerated, rows cut; ``f < n``, checked at call.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ToleranceError
        If ``f >= n``, or if fewer than ``n - f`` rows are finite.

    Notes
    -----
    Linear: one pass for the norms and one for the mean, O(n d) each. Memory O(n) beyond the input.

    References
    ----------
    .. [1] Gupta, Liu, Vaidya, "Byzantine fault-tolerant distributed machine learning using stochastic
       gradient descent (SGD) and norm-based comparative gradient elimination (CGE)", 2020.

    Examples
    --------
    >>> ComparativeGradientElimination(f=1).aggregate([np.ones(2), np.full(2, 3.0), np.full(2, -9.0)])
    array([2., 2.])
    """

    f: int
    chunk_size: int = field(default=8192, kw_only=True)
    uses: ClassVar[frozenset[str]] = frozenset({"norms"})
    name: ClassVar[str] = "comparative-gradient-elimination"

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        positive("chunk_size", self.chunk_size)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless ``f < n``."""
        tolerates(self, self.f < n, "f < n", n)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return equal weights for the rows of smallest norm."""
        k = geometry.n - self.f
        geometry.require_finite(k, "ComparativeGradientElimination")
        weights = np.zeros(geometry.n)
        weights[geometry.rank(geometry.norms)[:k]] = 1.0 / k
        return weights
