"""A little is enough: as far from the mean as the spread of the honest vectors hides."""

from __future__ import annotations

from dataclasses import field
from statistics import NormalDist
from typing import ClassVar

from byzflow.attacks.base import ColumnwiseAttack
from byzflow.kernels.columns import mean_std
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, positive
from byzflow.operators.columnwise import reads_in_place

__all__ = ("LittleAttack",)

_EDGE = 1e-12


@frozen
class LittleAttack(ColumnwiseAttack):
    """Send ``mean + z * std`` of the honest vectors, coordinate by coordinate.

    ``std`` is the population standard deviation (divided by n). With N nodes in all, ``s = max(1, N // 2 + 1
    - f)`` honest ones have to be won over, and ``z`` is the point that a normal value exceeds with
    probability ``s / N``: ``Phi(z) = (N - s) / N``, kept within [1e-12, 1 - 1e-12].

    Parameters
    ----------
    f : int
        Byzantine nodes; at least 0.
    N : int, optional
        All nodes; at least `f`. By default the honest vectors and f more.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ValueError
        If ``f < 0`` or ``N < f``, or `N` or `chunk_size` is not positive.

    Notes
    -----
    Column-wise: one pass, O(n d). Values that are not finite are left out of the mean and the deviation.
    The paper divides by the honest nodes, ``Phi(z) = (N - f - s) / (N - f)``, which gives a smaller z.

    References
    ----------
    .. [1] Baruch, Baruch, Goldberg, "A little is enough: Circumventing defenses for distributed learning",
       NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> honest = [np.array([0.0, 5.0]), np.array([2.0, 5.0]), np.array([4.0, 5.0])]
    >>> LittleAttack(f=1, N=4).apply(honest_grads=honest)
    array([2., 5.])
    """

    f: int
    N: int | None = None
    chunk_size: int = field(default=8192, kw_only=True)
    uses_honest_grads: ClassVar[bool] = True

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        if self.N is not None:
            positive("N", self.N)
            if self.f > self.N:
                raise ValueError(f"LittleAttack needs N >= f; got N={self.N}, f={self.f}. Raise N.")
        positive("chunk_size", self.chunk_size)

    def deviations(self, n: int) -> float:
        """Return z for n honest vectors.

        Examples
        --------
        >>> round(LittleAttack(f=3).deviations(10), 4)
        0.5024
        """
        total = n + self.f if self.N is None else self.N
        supporters = max(1, total // 2 + 1 - self.f)
        p = (total - supporters) / total
        return NormalDist().inv_cdf(min(max(p, _EDGE), 1.0 - _EDGE))

    @reads_in_place
    def columns(self, X: Array) -> Array:
        """Return mean + z * std of every column."""
        return mean_std(X, self.deviations(X.shape[0]))
