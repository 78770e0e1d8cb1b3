"""The sign flip that cancels everybody else."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np

from byzflow.attacks.base import LinearAttack
from byzflow.exceptions import ToleranceError
from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, positive
from byzflow.operators.geometry import Geometry

__all__ = ("ScaledSignFlipAttack",)


@frozen
class ScaledSignFlipAttack(LinearAttack):
    """Send ``-(h / f) * mean`` of the h honest vectors: with f such rows the sum of all is zero.

    Parameters
    ----------
    f : int
        Byzantine nodes that send this; at least 1, checked at call.
    chunk_size : int, default 8
        Scheduling hint [rows]; never changes the result.

    Raises
    ------
    ValueError
        If `f` is negative or `chunk_size` not positive.
    ToleranceError
        If `f` is 0.

    Notes
    -----
    Linear with known weights: one pass, O(h d). Rows that are not finite count neither in h nor in the mean.

    References
    ----------
    .. [1] Farhadkhani, Guerraoui, Gupta, Hoang, Pinot, Stephan, "Robust collaborative learning with linear
       gradient overhead", ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> ScaledSignFlipAttack(f=2).apply(honest_grads=[np.array([1.0]), np.array([3.0])])
    array([-2.])
    """

    f: int
    chunk_size: int = field(default=8, kw_only=True)
    uses_honest_grads: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset()
    constant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        positive("chunk_size", self.chunk_size)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless somebody sends the vector."""
        if self.f == 0:
            raise ToleranceError(f"ScaledSignFlipAttack needs f >= 1; got f=0, n={n}. Raise f.")

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return -1 / f for every finite row."""
        return np.where(geometry.finite, -1.0 / self.f, 0.0)
