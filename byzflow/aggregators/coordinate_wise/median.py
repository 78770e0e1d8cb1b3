"""The coordinate-wise median."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from byzflow.aggregators.base import ColumnwiseAggregator
from byzflow.kernels.columns import lower_median
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.checks import positive
from byzflow.operators.columnwise import reads_in_place

__all__ = ("CoordinateWiseMedian",)


@frozen
class CoordinateWiseMedian(ColumnwiseAggregator):
    """Take the median of every coordinate.

    ``out_c = the ceil(n / 2)-th smallest of x_1c, ..., x_nc``: for an even n the lower of the two middle
    values. NaN counts as larger than any number. Robust as long as fewer than half of the rows lie.

    Parameters
    ----------
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ValueError
        If `chunk_size` is not positive.

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
    >>> rows = [np.array([1.0, 9.0]), np.array([2.0, 7.0]), np.array([np.inf, 8.0])]
    >>> CoordinateWiseMedian().aggregate(rows)
    array([2., 8.])
    """

    chunk_size: int = field(default=8192, kw_only=True)
    name: ClassVar[str] = "coordinate-wise-median"

    def __post_init__(self) -> None:
        positive("chunk_size", self.chunk_size)

    @reads_in_place
    def columns(self, X: Array) -> Array:
        """Return the lower median of every column."""
        return lower_median(X)
