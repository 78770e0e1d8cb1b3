"""The smoothed, weighted geometric median after a few steps, as robust federated averaging uses it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field, replace
from typing import ClassVar, Self

import numpy as np

from byzflow.aggregators.base import LinearAggregator
from byzflow.exceptions import ToleranceError
from byzflow.kernels.small import dot, matvec
from byzflow.operators.base import frozen
from byzflow.operators.checks import (
    finite,
    node_weights,
    one_for_each,
    positive,
    positive_real,
    weights_without,
)
from byzflow.operators.geometry import Geometry

__all__ = ("SmoothedGeometricMedian",)


@frozen
class SmoothedGeometricMedian(LinearAggregator):
    """Take T steps of the smoothed Weiszfeld iteration from the origin (RFA).

    ``z <- sum_i b_i x_i / sum_i b_i`` with ``b_i = a_i / max(nu, |x_i - z|)``, ``z = 0`` at first, over the
    finite rows. Every step is a weighted average, which is what secure aggregation can do; for the optimum
    itself use `GeometricMedian`.

    Parameters
    ----------
    nu : float, default 1e-6
        Distances below this count as this [units of the rows].
    T : int, default 3
        Steps.
    node_weights : sequence of float, optional
        The a_i, non-negative, in node order; all 1 by default.

    Raises
    ------
    ToleranceError
        If no finite row has a positive weight.
    ValueError
        If the number of node weights is not n, or one of them is negative.

    Notes
    -----
    Gram-space: one pass for the inner products, O(n**2 d), and one for the answer, O(n d); a step costs
    O(n**2), whatever d. Memory O(n**2) beyond the input.

    References
    ----------
    .. [1] Pillutla, Kakade, Harchaoui, "Robust aggregation for federated learning", IEEE Transactions on
       Signal Processing 70, 2022 (arXiv 1912.13445, 2019).

    Examples
    --------
    >>> rows = [np.full(1, v) for v in (1.0, 1.0, 1.0, 100.0)]
    >>> SmoothedGeometricMedian(T=8).aggregate(rows).round(2)
    array([1.])
    """

    nu: float = field(default=1e-6, kw_only=True)
    T: int = field(default=3, kw_only=True)
    node_weights: Sequence[float] | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "smoothed-geometric-median"

    def __post_init__(self) -> None:
        positive_real("nu", self.nu)
        finite("nu", self.nu)
        positive("T", self.T)
        object.__setattr__(self, "node_weights", node_weights(self.node_weights))

    @property
    def anchors(self) -> tuple[str, ...]:
        """The start."""
        return ("zero",)

    def check(self, n: int) -> None:
        """Raise ValueError unless there are n node weights or none at all."""
        one_for_each("SmoothedGeometricMedian", self.node_weights, n)

    def without(self, nodes: Collection[int]) -> Self:
        """Return the rule with the weights of the nodes that are left."""
        return replace(self, node_weights=weights_without(self.node_weights, nodes))

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return the weights of the last step."""
        n = geometry.n
        given = np.ones(n) if self.node_weights is None else np.asarray(self.node_weights, np.float64)
        given = np.where(geometry.finite, given, 0.0)
        if not given.any():
            raise ToleranceError(
                f"SmoothedGeometricMedian needs a finite row with a positive weight; got none among n={n}. "
                f"Find out which nodes send NaN, inf or numbers too large to square."
            )
        given /= given.max()  # the sum of huge weights is infinite
        point = np.zeros(len(geometry.gram))
        point[geometry.column("zero")] = 1.0
        for _ in range(self.T):
            pull = given / np.maximum(np.sqrt(_sq_distances(geometry, point)), self.nu)
            point = np.zeros(len(geometry.gram))
            point[:n] = pull / pull.sum()
        return point


def _sq_distances(geometry: Geometry, point: np.ndarray) -> np.ndarray:
    """Return the squared distances to the weighted point, (n,), also to a row that it nearly is.

    That one is ``|sum_j w_j (x_j - x_i)|**2``, in which what is left of the weights is small.
    """
    squares = geometry.sq_distances_to(point)
    i = int(point[: geometry.n].argmax())
    if point[i] > 0.5:
        apart = point.copy()
        apart[i] = 0.0
        apart[i] = -apart.sum()
        moved = np.empty(len(apart))
        matvec(geometry.gram, apart, moved)
        squares[i] = max(dot(apart, moved), 0.0)
    return squares
