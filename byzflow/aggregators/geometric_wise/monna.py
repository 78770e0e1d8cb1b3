"""MoNNA: the neighbours of one trusted row."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import field, replace
from typing import ClassVar, Self

import numpy as np

from byzflow.aggregators.base import LinearAggregator
from byzflow.kernels.blocks import Span
from byzflow.kernels.rows import Rows
from byzflow.kernels.star import star_block
from byzflow.operators.base import frozen
from byzflow.operators.checks import index_without, nonnegative, positive, tolerates
from byzflow.operators.geometry import Geometry
from byzflow.operators.linear import Weights, as_plan, geometry_of
from byzflow.operators.rows import Stats

__all__ = ("MoNNA",)


@frozen
class MoNNA(LinearAggregator):
    """Average the ``n - f`` rows nearest to a trusted row, itself included.

    Made for peer-to-peer training, where a node trusts its own vector. Equal distances: the lower node index
    comes first. If the trusted row is not finite, every other row is infinitely far from it and the
    ``n - f`` lowest finite rows are taken.

    Parameters
    ----------
    f : int
        Byzantine rows tolerated; ``2 f < n``, checked at call.
    reference_index : int, default 0
        Index of the trusted row in node order; ``0 <= reference_index < n``. In a round that leaves that node
        out the first one that is left takes its place.
    chunk_size : int, default 32
        Scheduling hint [rows]; never changes the result.

    Raises
    ------
    ToleranceError
        If ``2 f >= n``, or if fewer than ``n - f`` rows are finite.
    ValueError
        If ``reference_index`` is negative, or at least n.

    Notes
    -----
    One pass for the distances to the reference, O(n d), and one for the mean, O((n - f) d); in a chain of
    linear rules it uses the chain's Gram matrix. Memory O(n) beyond the input.

    References
    ----------
    .. [1] Farhadkhani, Guerraoui, Gupta, Hoang, Pinot, Stephan, "Robust collaborative learning with linear
       gradient overhead", ICML 2023.

    Examples
    --------
    >>> MoNNA(f=1).aggregate([np.zeros(2), np.ones(2), np.full(2, 9.0)])
    array([0.5, 0.5])
    """

    f: int
    reference_index: int = field(default=0, kw_only=True)
    chunk_size: int = field(default=32, kw_only=True)
    name: ClassVar[str] = "monna"

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        nonnegative("reference_index", self.reference_index)
        positive("chunk_size", self.chunk_size)

    def check(self, n: int) -> None:
        """Raise unless ``2 f < n`` and the reference is one of the n rows."""
        tolerates(self, 2 * self.f < n, "2 f < n", n)
        if self.reference_index >= n:
            raise ValueError(
                f"MoNNA needs reference_index < n; got reference_index={self.reference_index}, n={n}. "
                f"Name one of the rows."
            )

    def without(self, nodes: Collection[int]) -> Self:
        """Return the rule for the rows that are left, the first of which stands in for the trusted one."""
        return replace(self, reference_index=index_without(self.reference_index, nodes) or 0)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return equal weights for the rows nearest to the reference."""
        return self._nearest(geometry, geometry.nearest(self.reference_index, geometry.n))

    def measure(self, rows: Rows, span: Span) -> Stats:
        """Return the block's distances to the reference: on its own the rule needs no others."""
        return star_block(rows, span, self.reference_index)

    def solve(self, stats: Stats, n: int) -> Weights:
        """Return the weights from the distances to the reference."""
        geometry = geometry_of({"norms": stats["norms"]} if stats else {}, n, ())
        distances = np.zeros(n)
        if stats and geometry.finite[self.reference_index]:
            distances = stats["star"].copy()
            distances[self.reference_index] = -1.0
        return as_plan(self._nearest(geometry, geometry.rank(distances))[None], geometry)

    def _nearest(self, geometry: Geometry, ranked: np.ndarray) -> np.ndarray:
        k = geometry.n - self.f
        geometry.require_finite(k, "MoNNA")
        weights = np.zeros(geometry.n)
        weights[ranked[:k]] = 1.0 / k
        return weights
