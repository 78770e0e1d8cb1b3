"""The majority vote of signs."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from byzflow.aggregators.base import ColumnwiseAggregator
from byzflow.kernels.columns import majority
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.checks import positive
from byzflow.operators.columnwise import reads_in_place

__all__ = ("SignMajority",)


@frozen
class SignMajority(ColumnwiseAggregator):
    """Take, in every coordinate, the sign that most rows have: -1, 0 or 1.

    ``out_c = sign(sign(x_1c) + ... + sign(x_nc))``; a tie is 0, and NaN does not vote. Sizes do not count, so
    that no row moves the answer by more than one vote, and the answer is a direction, not a mean.

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
    Column-wise: one pass, O(n) for each column.

    References
    ----------
    .. [1] Bernstein, Zhao, Azizzadenesheli, Anandkumar, "signSGD with majority vote is communication
       efficient and fault tolerant", ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> SignMajority().aggregate([np.array([1.0, -2.0]), np.array([5.0, 3.0]), np.array([-np.inf, -0.1])])
    array([ 1., -1.])
    """

    chunk_size: int = field(default=8192, kw_only=True)
    name: ClassVar[str] = "sign-majority"

    def __post_init__(self) -> None:
        positive("chunk_size", self.chunk_size)

    @reads_in_place
    def columns(self, X: Array) -> Array:
        """Return the sign of the sum of the signs of every column."""
        return majority(X)
