"""The geometric median: least sum of distances."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np

from byzflow.aggregators.base import LinearAggregator
from byzflow.aggregators.geometric_wise._weiszfeld import median_weights
from byzflow.kernels.blocks import Span
from byzflow.kernels.host import to_host
from byzflow.kernels.rows import Rows
from byzflow.operators.base import frozen
from byzflow.operators.checks import choice, positive, positive_real
from byzflow.operators.geometry import Geometry
from byzflow.operators.linear import Weights, as_plan, geometry_of
from byzflow.operators.rows import Stats

__all__ = ("GeometricMedian",)


@frozen
class GeometricMedian(LinearAggregator):
    """Return the point with the least sum of distances to the rows.

    ``out = argmin_z sum_i |x_i - z|``, over the finite rows; fewer than half of them may lie for it to
    stay near the honest ones. The optimum is found also where it is a row or an iterate meets a row.

    Parameters
    ----------
    tol : float, default 1e-6
        The search stops well within this distance of the optimum; relative for rows closer than 1.
    max_iter : int, default 256
        Iterations at most; a dozen are usual.
    eps : float, default 1e-12
        Rows nearer to each other than this are one point; relative for rows closer than 1.
    init : {"median", "mean"}, default "median"
        Which optimum is meant where it is not unique, which takes an even number of rows on one line: the
        lower middle row (in more than one dimension, the middle row that is first in node order), or the
        middle row nearer to the mean.
    chunk_size : int, default 32
        Scheduling hint [rows]; never changes the result.

    Raises
    ------
    ToleranceError
        If no row is finite.

    Notes
    -----
    Gram-space: one pass for the inner products, O(n**2 d), and one for the answer, O(n d); the iteration
    (Weiszfeld's, then Newton's where that one is slow) costs O(n**2) or O(n**3) a step, whatever d. Memory
    O(n**2) beyond the input.

    References
    ----------
    .. [1] Weiszfeld, "Sur le point pour lequel la somme des distances de n points donnés est minimum",
       Tohoku Mathematical Journal 43, 1937.
    .. [2] Vardi, Zhang, "The multivariate L1-median and associated data depth", PNAS 97, 2000.
    .. [3] Chen, Su, Xu, "Distributed statistical machine learning in adversarial settings: Byzantine
       gradient descent", 2017.

    Examples
    --------
    >>> rows = [np.array([0.0, 0.0]), np.array([2.0, 0.0]), np.array([1.0, 3.0]), np.array([1.0, 1.0])]
    >>> GeometricMedian().aggregate(rows)
    array([1., 1.])
    """

    tol: float = field(default=1e-6, kw_only=True)
    max_iter: int = field(default=256, kw_only=True)
    eps: float = field(default=1e-12, kw_only=True)
    init: str = field(default="median", kw_only=True)
    chunk_size: int = field(default=32, kw_only=True)
    name: ClassVar[str] = "geometric-median"

    def __post_init__(self) -> None:
        positive_real("tol", self.tol)
        positive("max_iter", self.max_iter)
        positive_real("eps", self.eps)
        choice("init", self.init, ("median", "mean"))
        positive("chunk_size", self.chunk_size)

    def measure(self, rows: Rows, span: Span) -> Stats:
        """Return the Gram matrix, and the rows themselves if they have but one column.

        Inner products do not tell a line from its mirror image, so they cannot say which row is lower.
        """
        alone = span == Span(0, 1)
        values = to_host(rows.read(span))[:, 0].astype(np.float64) if alone else np.zeros(rows.n)
        return {**super().measure(rows, span), "values": np.where(np.isfinite(values), values, 0.0)}

    def solve(self, stats: Stats, n: int) -> Weights:
        """Return the weights of the rows that count."""
        geometry = geometry_of(stats, n, self.anchors)
        return as_plan(self._weigh(geometry, stats.get("values", np.zeros(n)))[None], geometry)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return the weights of the optimum."""
        return self._weigh(geometry, np.zeros(geometry.n))

    def _weigh(self, geometry: Geometry, values: np.ndarray) -> np.ndarray:
        geometry.require_finite(1, "GeometricMedian")
        finite = np.flatnonzero(geometry.finite)
        gram = geometry.gram if len(finite) == len(geometry.gram) else geometry.gram[np.ix_(finite, finite)]
        # In the order of squared distances to the mean, less what all rows share.
        order = gram.diagonal() - 2.0 * gram.mean(axis=1) if self.init == "mean" else values[finite]
        weights = np.zeros(geometry.n)
        weights[finite] = median_weights(gram, order, tol=self.tol, max_iter=self.max_iter, eps=self.eps)
        return weights
