"""Nothing but zeros, as from a node that did not work."""

from __future__ import annotations

from typing import Any

from byzflow.attacks.shape import ShapeAttack
from byzflow.kernels.blocks import Span
from byzflow.kernels.host import fill
from byzflow.kernels.rows import Array, Rows
from byzflow.operators.base import frozen

__all__ = ("ZeroAttack",)


@frozen
class ZeroAttack(ShapeAttack):
    """Send zeros: a lazy node, and one that pulls every mean towards the origin.

    ``a_c = 0`` for every coordinate c.

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
    >>> ZeroAttack().apply(honest_grads=[np.ones(2)])
    array([0., 0.])
    """

    def emit(self, rows: Rows, plan: Any, span: Span, out: Array) -> None:
        """Write zeros."""
        fill(out, 0.0)
