"""The mean around the coordinate-wise median (MeaMed)."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from byzflow.aggregators.base import ColumnwiseAggregator
from byzflow.kernels.columns import mean_around_median
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, positive, tolerates
from byzflow.operators.columnwise import reads_in_place

__all__ = ("MeanOfMedians",)


@frozen
class MeanOfMedians(ColumnwiseAggregator):
    """Average, in every coordinate, the n - f values nearest to the median.

    With ``m_c`` the lower median of column c, ``out_c`` is the mean of the n - f values ``x_ic`` with the
    smallest ``|x_ic - m_c|``; of two equally far ones at the cut the lower value stays. NaN counts as
    larger than any number.

    Parameters
    ----------
    f : int
        Byzantine rows tolerated, values dropped from each column; ``f < n``, checked at call.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ToleranceError
        If ``f >= n``.

    Notes
    -----
    Column-wise: one pass, O(n log² n) comparisons for each column, O(n) memory beyond the input per thread.
    In a sorted column the values kept are a window, so nothing is sorted twice.

    References
    ----------
    .. [1] Xie, Koyejo, Gupta, "Generalized Byzantine-tolerant SGD", 2018 ("mean around median").

    Examples
    --------
    >>> import numpy as np
    >>> MeanOfMedians(f=1).aggregate([np.full(2, v) for v in (1.0, 2.0, 3.0, 100.0)])
    array([2., 2.])
    """

    f: int
    chunk_size: int = field(default=8192, kw_only=True)
    name: ClassVar[str] = "mean-of-medians"

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        positive("chunk_size", self.chunk_size)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless at least one value is kept."""
        tolerates(self, self.f < n, "f < n", n)

    @reads_in_place
    def columns(self, X: Array) -> Array:
        """Return the mean around the median of every column."""
        return mean_around_median(X, X.shape[0] - self.f)
