"""CAF: filter out what stands out along the direction of most variance, whatever the variance is."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np

from byzflow.aggregators.base import LinearAggregator
from byzflow.aggregators.norm_wise._spectrum import calmed, top_variance
from byzflow.kernels.small import compiled
from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, positive, tolerates
from byzflow.operators.geometry import Geometry

__all__ = ("CAF",)


@frozen
class CAF(LinearAggregator):
    """Covariance bound-agnostic filter: weigh rows down by how far out they are, keep the calmest mean.

    From weights ``w_i = 1``, while ``sum w > n - 2 f``: with the weighted mean mu and the top eigenpair
    (lambda, v) of the weighted covariance, remember the mu of the smallest lambda; then
    ``w_i <- w_i (1 - tau_i / max tau)`` with ``tau_i = <v, x_i - mu>**2``, the maximum over all rows,
    whatever weight they have left. The remembered mean is returned: the plain mean for ``f = 0``. A row that
    is not finite has no weight and no tau.

    Parameters
    ----------
    f : int
        Byzantine rows tolerated; ``2 f < n``, checked at call.
    chunk_size : int, default 256
        Scheduling hint [columns]; never changes the result.
    power_iters : int, default 3
        Accepted so that programs written for an approximate eigenvector run; the eigenpair is exact here,
        whatever its value, since in Gram space that costs next to nothing.

    Raises
    ------
    ToleranceError
        If ``2 f >= n``, or if fewer than ``n - f`` rows are finite.

    Notes
    -----
    Gram-space: one pass for the inner products, O(n**2 d), and one for the mean, O(n d); rounds of O(n**3)
    between them, whatever d. Memory O(n**2) beyond the input.

    A row that is k times as far out as the others makes about ``k**2`` rounds of it. So that no liar can keep
    the loop busy for ever, one whose weight is below 0.001 counts for no more than r times the largest tau of
    the others, where r is 10**4 for up to 32 rows and ``10**7 / n**2``, at least 64, for more: ten
    milliseconds to a second at worst, where the mean has changed by about 1 / r.

    References
    ----------
    .. [1] Allouah, Guerraoui, Stephan, "Towards trustworthy federated learning with untrusted
       participants", ICML 2025.

    Examples
    --------
    >>> CAF(f=1).aggregate([np.zeros(2), np.full(2, 2.0), np.ones(2), np.full(2, 90.0)]).round(2)
    array([1.01, 1.01])
    """

    f: int
    chunk_size: int = field(default=256, kw_only=True)
    power_iters: int = field(default=3, kw_only=True)
    name: ClassVar[str] = "caf"

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        positive("chunk_size", self.chunk_size)
        positive("power_iters", self.power_iters)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless ``2 f < n``."""
        tolerates(self, 2 * self.f < n, "2 f < n", n)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return the weights whose covariance has the smallest top eigenvalue."""
        n = geometry.n
        geometry.require_finite(n - self.f, "CAF")
        return _calmest(geometry.gram, geometry.finite, n - 2 * self.f)


_FAINT = 1e-3
"""Weight of a row below which it is as good as gone."""


@compiled
def _calmest(gram: np.ndarray, finite: np.ndarray, enough: int) -> np.ndarray:
    """Return the weights of smallest top variance, of those that the filter passes while they sum to more."""
    n = len(finite)
    weights = np.where(finite, 1.0, 0.0)
    best, least = weights, np.inf
    squares, reach = np.empty(n), min(1e4, max(64.0, 1e7 / n**2))
    while weights.sum() > enough:
        value = top_variance(gram, weights, finite, squares)
        if value < least:
            best, least = weights, value
        near = np.where(weights > _FAINT, squares, 0.0).max()
        if near == 0.0:
            break
        weights = calmed(weights, squares, min(squares.max(), reach * near))
    answer: np.ndarray = best / best.sum()
    return answer
