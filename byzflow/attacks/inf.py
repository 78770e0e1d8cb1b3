"""Infinity in every coordinate."""

from __future__ import annotations

import math
from typing import Any

from byzflow.attacks.shape import ShapeAttack
from byzflow.kernels.blocks import Span
from byzflow.kernels.host import fill
from byzflow.kernels.rows import Array, Rows
from byzflow.operators.base import frozen

__all__ = ("InfAttack",)


@frozen
class InfAttack(ShapeAttack):
    """Send +inf in every coordinate: one such row makes any mean infinite.

    ``a_c = inf`` for every coordinate c.

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
    Element-wise, O(d); the honest vectors are not read. Folklore.

    Examples
    --------
    >>> import numpy as np
    >>> InfAttack().apply(honest_grads=[np.zeros(2)])
    array([inf, inf])
    """

    def emit(self, rows: Rows, plan: Any, span: Span, out: Array) -> None:
        """Write +inf."""
        fill(out, math.inf)
