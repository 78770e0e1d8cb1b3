"""Bulyan: Krum chooses rows one after another, the mean around their median joins them."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np

from byzflow.aggregators.base import RowAggregator
from byzflow.kernels.blocks import Span
from byzflow.kernels.columns import mean_around_median
from byzflow.kernels.gram import gram_block
from byzflow.kernels.rows import Array, Rows
from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, positive, tolerates
from byzflow.operators.linear import geometry_of
from byzflow.operators.rows import Stats

__all__ = ("Bulyan",)


@frozen
class Bulyan(RowAggregator):
    """Choose n - 2 f rows by repeated Krum and average, in every coordinate, those around their median.

    Krum picks a row, the row is taken out of the pool, and Krum picks from the rest. Of the ``n - 2 f``
    values that a coordinate then has, the mean of the ``n - 4 f`` nearest to their median is the answer.
    Equal Krum scores: the lower node index comes first. It bounds what a liar can do in a single coordinate,
    at the price of many nodes.

    Parameters
    ----------
    f : int
        Byzantine rows tolerated; ``n >= 4 f + 3``, checked at call.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ToleranceError
        If ``n < 4 f + 3``, or fewer than n - f rows are finite.

    Notes
    -----
    Two passes: one for the Gram matrix, O(n**2 d); one over the chosen rows, O(n log² n) comparisons for
    each column. Between them O(n**3) on an n x n matrix, with its rows sorted once.

    References
    ----------
    .. [1] El Mhamdi, Guerraoui, Rouault, "The hidden vulnerability of distributed learning in Byzantium",
       ICML 2018.

    Examples
    --------
    >>> rows = [np.array([v]) for v in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 900.0)]
    >>> Bulyan(f=1).aggregate(rows)
    array([3.])
    """

    f: int
    chunk_size: int = field(default=8192, kw_only=True)
    name: ClassVar[str] = "bulyan"
    measures: ClassVar[bool] = True
    supports_barriered_subtasks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        positive("chunk_size", self.chunk_size)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless there are enough rows."""
        tolerates(self, n >= 4 * self.f + 3, "n >= 4 f + 3", n)

    def measure(self, rows: Rows, span: Span) -> Stats:
        """Return the block's Gram matrix."""
        return gram_block(rows, span)

    def solve(self, stats: Stats, n: int) -> np.ndarray:
        """Return the chosen rows in the order of their choice."""
        geometry = geometry_of(stats, n, ())
        geometry.require_finite(n - self.f, "Bulyan")
        return _repeated_krum(geometry.sq_distances, self.f)

    def emit(self, rows: Rows, plan: np.ndarray, span: Span, out: Array) -> None:
        """Write the mean around the median of the chosen rows of one block."""
        out[0, :] = mean_around_median(rows.pick(plan).window(span), len(plan) - 2 * self.f)


def _repeated_krum(distances: np.ndarray, f: int) -> np.ndarray:
    """Return the n - 2 f rows that Krum picks, each from those that are left."""
    n = len(distances)
    near = np.argsort(distances, axis=1, kind="stable")
    ascending = np.take_along_axis(distances, near, axis=1)
    pool = np.arange(n)
    chosen = np.empty(n - 2 * f, np.intp)
    for i in range(len(chosen)):
        best = int(np.argmin(ascending[:, : len(pool) - f].sum(axis=1)))
        chosen[i] = pool[best]
        # Every row keeps its order without the row that left: nothing is sorted again.
        left = np.arange(len(pool)) != best
        stay = near[left] != pool[best]
        smaller = (len(pool) - 1, len(pool) - 1)
        near = near[left][stay].reshape(smaller)
        ascending = ascending[left][stay].reshape(smaller)
        pool = pool[left]
    return chosen
