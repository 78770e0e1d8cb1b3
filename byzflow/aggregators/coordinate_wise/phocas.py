"""The mean around the coordinate-wise trimmed mean (Phocas)."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from byzflow.aggregators.base import ColumnwiseAggregator
from byzflow.kernels.columns import mean_around_trimmed
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, positive, tolerates
from byzflow.operators.columnwise import reads_in_place

__all__ = ("Phocas",)


@frozen
class Phocas(ColumnwiseAggregator):
    """Average, in every coordinate, the n - f values nearest to the trimmed mean.

    With ``t_c`` the mean of column c without its f lowest and f highest values, ``out_c`` is the mean of the
    n - f values ``x_ic`` with the smallest ``|x_ic - t_c|``; of two equally far ones at the cut the lower
    value stays. NaN counts as larger than any number.

    Parameters
    ----------
    f : int
        Byzantine rows tolerated; ``2 f < n``, checked at call.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ToleranceError
        If ``2 f >= n``.

    Notes
    -----
    Column-wise: one pass, O(n log² n) comparisons for each column, O(n) memory beyond the input per thread.

    References
    ----------
    .. [1] Xie, Koyejo, Gupta, "Phocas: dimensional Byzantine-resilient stochastic gradient descent", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> Phocas(f=1).aggregate([np.full(2, v) for v in (1.0, 2.0, 3.0, 100.0)])
    array([2., 2.])
    """

    f: int
    chunk_size: int = field(default=8192, kw_only=True)
    name: ClassVar[str] = "phocas"

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        positive("chunk_size", self.chunk_size)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless something is left between the ends."""
        tolerates(self, 2 * self.f < n, "2 f < n", n)

    @reads_in_place
    def columns(self, X: Array) -> Array:
        """Return the mean around the trimmed mean of every column."""
        return mean_around_trimmed(X, self.f, X.shape[0] - self.f)
