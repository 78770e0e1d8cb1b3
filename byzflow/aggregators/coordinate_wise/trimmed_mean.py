"""The coordinate-wise trimmed mean."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from byzflow.aggregators.base import ColumnwiseAggregator
from byzflow.kernels.columns import trimmed_mean
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, positive, tolerates
from byzflow.operators.columnwise import reads_in_place

__all__ = ("CoordinateWiseTrimmedMean",)


@frozen
class CoordinateWiseTrimmedMean(ColumnwiseAggregator):
    """Average every coordinate without its f lowest and f highest values.

    ``out_c = (x_(f+1)c + ... + x_(n-f)c) / (n - 2 f)`` with the values of column c in ascending order. NaN
    counts as larger than any number.

    Parameters
    ----------
    f : int
        Byzantine rows tolerated, values cut from each end; ``2 f < n``, checked at call.
    chunk_size : int, default 4096
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
    .. [1] Yin, Chen, Ramchandran, Bartlett, "Byzantine-robust distributed learning: Towards optimal
       statistical rates", ICML 2018.

    Examples
    --------
    >>> import numpy as np
    >>> CoordinateWiseTrimmedMean(f=1).aggregate([np.full(2, v) for v in (1.0, 2.0, 6.0, np.inf)])
    array([4., 4.])
    """

    f: int
    chunk_size: int = field(default=4096, kw_only=True)
    name: ClassVar[str] = "coordinate-wise-trimmed-mean"

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        positive("chunk_size", self.chunk_size)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless something is left between the ends."""
        tolerates(self, 2 * self.f < n, "2 f < n", n)

    @reads_in_place
    def columns(self, X: Array) -> Array:
        """Return the trimmed mean of every column."""
        return trimmed_mean(X, self.f)
