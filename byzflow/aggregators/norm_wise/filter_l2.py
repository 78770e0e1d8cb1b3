"""FilterL2: weigh rows down until no direction has more variance than it should."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np

from byzflow.aggregators.base import LinearAggregator
from byzflow.aggregators.norm_wise._spectrum import calmed, top_spectrum
from byzflow.operators.base import frozen
from byzflow.operators.checks import positive_real
from byzflow.operators.geometry import Geometry

__all__ = ("FilterL2",)


@frozen
class FilterL2(LinearAggregator):
    """Spectral filter: weigh rows down along the top direction while its variance is above a bound.

    From ``c_i = 1``, while the top eigenvalue of the weighted covariance exceeds ``expansion * sigma**2``:
    ``c_i <- c_i (1 - tau_i / max tau)`` with ``tau_i = <v, x_i - mu>**2``, v the top eigenvector, mu the
    weighted mean, which is returned at the end, and the maximum over rows that still have weight. A step that
    would leave no weight (all rows are equally far out) is not taken. Needs no f, but the honest rows'
    variance; `CAF` needs f and no variance. Rows that are not finite start with weight 0.

    Parameters
    ----------
    sigma : float
        Bound on the honest rows' standard deviation along any direction [units of the rows].
    expansion : float, default 20
        How much more variance than ``sigma**2`` is let pass.

    Raises
    ------
    ToleranceError
        If no row is finite.

    Notes
    -----
    Gram-space: one pass for the inner products, O(n**2 d), and one for the mean, O(n d); at most n rounds of
    O(n**3) between them, whatever d, since each takes all weight from one row. Memory O(n**2) beyond the
    input.

    References
    ----------
    .. [1] Diakonikolas, Kamath, Kane, Li, Moitra, Stewart, "Being robust (in high dimensions) can be
       practical", ICML 2017 (the filter).
    .. [2] Steinhardt, "Robust learning: Information theory and algorithms", PhD thesis, Stanford University,
       2018 (this form of it).

    Examples
    --------
    >>> rows = [np.full(1, v) for v in (0.0, 1.0, 2.0, 900.0)]
    >>> FilterL2(sigma=1.0).aggregate(rows).round(2)
    array([1.])
    """

    sigma: float = field(kw_only=True)
    expansion: float = field(default=20.0, kw_only=True)
    name: ClassVar[str] = "filter-l2"

    def __post_init__(self) -> None:
        positive_real("sigma", self.sigma)
        positive_real("expansion", self.expansion)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return the weights at which the top variance is within the bound."""
        geometry.require_finite(1, "FilterL2")
        n = geometry.n
        bound = self.expansion * self.sigma * self.sigma  # inf where a power is an OverflowError
        weights = geometry.finite.astype(np.float64)
        spectrum = top_spectrum(geometry.gram[:n, :n], weights)
        while spectrum.value > bound:
            calmer = calmed(weights, spectrum.squares, spectrum.squares.max())
            if not calmer.any():
                break
            weights = calmer
            spectrum = top_spectrum(geometry.gram[:n, :n], weights)
        answer: np.ndarray = weights / weights.sum()
        return answer
