"""FABA: throw out the farthest row, again and again."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from byzflow.aggregators.base import LinearAggregator
from byzflow.kernels.small import matvec
from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, tolerates
from byzflow.operators.geometry import Geometry

__all__ = ("FABA",)


@frozen
class FABA(LinearAggregator):
    """Average what is left after f times throwing out the row farthest from the mean of the rest.

    With S all rows at first, f times ``S <- S - {argmax_{i in S} |x_i - mean(S)|}``; ``out = mean(S)``. Fast
    where liars are far out; f liars that agree can still shift the first means. Equal distances: the lower
    node index goes first. Rows that are not finite go before all others.

    Parameters
    ----------
    f : int
        Byzantine rows tolerated, rows thrown out; ``2 f < n``, checked at call.

    Raises
    ------
    ToleranceError
        If ``2 f >= n``, or if fewer than ``n - f`` rows are finite.

    Notes
    -----
    Gram-space: one pass for the inner products, O(n**2 d), and one for the mean, O((n - f) d); O(n**2) for
    each row thrown out, whatever d. Memory O(n**2) beyond the input.

    References
    ----------
    .. [1] Xia, Tao, Hao, Li, "FABA: An algorithm for fast aggregation against Byzantine attacks in
       distributed neural networks", IJCAI 2019.

    Examples
    --------
    >>> FABA(f=1).aggregate([np.zeros(1), np.ones(1), np.full(1, 50.0)])
    array([0.5])
    """

    f: int
    name: ClassVar[str] = "faba"

    def __post_init__(self) -> None:
        nonnegative("f", self.f)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless ``2 f < n``."""
        tolerates(self, 2 * self.f < n, "2 f < n", n)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return equal weights for the rows that are left."""
        n = geometry.n
        geometry.require_finite(n - self.f, "FABA")
        kept = geometry.finite.copy()
        chosen, sums = np.zeros((2, len(geometry.gram)))
        while (k := np.count_nonzero(kept)) > n - self.f:
            # k |x_i - mean|**2 less what all rows share: whole numbers stay whole, and equal ones equal.
            chosen[:n] = kept
            matvec(geometry.gram, chosen, sums)
            farness = k * geometry.gram.diagonal() - 2.0 * sums
            kept[np.where(kept, farness[:n], -np.inf).argmax()] = False
        weights: np.ndarray = kept / (n - self.f)
        return weights
