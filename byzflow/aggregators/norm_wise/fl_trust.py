"""FLTrust: weigh rows by their agreement with the server's own gradient."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import field, replace
from typing import ClassVar, Self

import numpy as np

from byzflow.aggregators.base import LinearAggregator
from byzflow.exceptions import ToleranceError
from byzflow.operators.base import frozen
from byzflow.operators.checks import index_without, nonnegative
from byzflow.operators.geometry import Geometry

__all__ = ("FLTrust",)

_SHORTEST = 1e-12
"""Rows shorter than this, in lengths of the trusted one, have no direction."""


@frozen
class FLTrust(LinearAggregator):
    """Average the rows, scaled to a trusted row's norm and weighted by their agreement with it.

    With the trusted row g: ``s_i = max(0, cos(x_i, g))`` and
    ``out = sum_i s_i (|g| / |x_i|) x_i / sum_i s_i`` over all other rows. Tolerates any number of liars as
    long as g, made from a small clean dataset at the server, points the right way. If no row agrees with g
    the result is zero: a round without a step.

    Parameters
    ----------
    reference_index : int, default 0
        Index of the trusted row; it is not averaged itself. In a round that leaves that node out no other
        one takes its place: the round fails.

    Raises
    ------
    ToleranceError
        If there is no row beside the trusted one, or the trusted one is not finite.
    ValueError
        If ``reference_index`` is negative, or at least n.

    Notes
    -----
    Gram-space: one pass for the inner products, O(n**2 d), and one for the answer, O(n d). Memory O(n**2)
    beyond the input. A row that is not finite, zero, or 1e12 times shorter than the trusted one agrees with
    nothing: its angle cannot be known.

    References
    ----------
    .. [1] Cao, Fang, Liu, Gong, "FLTrust: Byzantine-robust federated learning via trust bootstrapping",
       NDSS 2021.

    Examples
    --------
    >>> server, *clients = np.array([[2.0, 0.0], [9.0, 0.0], [0.0, 5.0], [-7.0, 0.0]])
    >>> FLTrust().aggregate([server, *clients])
    array([2., 0.])
    """

    reference_index: int = field(default=0, kw_only=True)
    name: ClassVar[str] = "fltrust"

    def __post_init__(self) -> None:
        nonnegative("reference_index", self.reference_index)

    @property
    def anchors(self) -> tuple[str, ...]:
        """The origin, which angles are measured at."""
        return ("zero",)

    def check(self, n: int) -> None:
        """Raise unless the reference is one of at least two rows."""
        if n < 2:
            raise ToleranceError(f"FLTrust needs a row beside the trusted one; got n={n}. Add nodes.")
        if self.reference_index >= n:
            raise ValueError(
                f"FLTrust needs reference_index < n; got reference_index={self.reference_index}, n={n}. "
                f"Name one of the rows."
            )

    def without(self, nodes: Collection[int]) -> Self:
        """Return the rule for the rows that are left; `ToleranceError` without the trusted one."""
        place = index_without(self.reference_index, nodes)
        if place is None:
            raise ToleranceError(
                f"FLTrust needs the vector of its trusted node, number {self.reference_index}; it is left "
                f"out. Repair that node."
            )
        return replace(self, reference_index=place)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return the trust in each row, times what scales it to the trusted row's norm."""
        g = self.reference_index
        if not geometry.finite[g]:
            raise ToleranceError(
                f"FLTrust needs its trusted row, number {g}, to be finite; it holds NaN, inf or numbers "
                "too large to square. "
                f"Look at the server's own training."
            )
        norms = geometry.norms
        lengths = np.where(norms > _SHORTEST * norms[g], norms, np.inf)
        trust = np.clip(geometry.products[g] / lengths / lengths[g], 0.0, 1.0)
        trust[g] = 0.0
        total = trust.sum()
        weights: np.ndarray = trust * (norms[g] / (lengths * (total if total > 0.0 else 1.0)))
        return weights
