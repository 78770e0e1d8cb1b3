"""Not a number in every coordinate."""

from __future__ import annotations

import math
from typing import Any

from byzflow.attacks.shape import ShapeAttack
from byzflow.kernels.blocks import Span
from byzflow.kernels.host import fill
from byzflow.kernels.rows import Array, Rows
from byzflow.operators.base import frozen

__all__ = ("NaNAttack",)


@frozen
class NaNAttack(ShapeAttack):
    """Send NaN in every coordinate: it compares false with everything, which many rules take for a win.

    ``a_c = nan`` for every coordinate c.

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
    >>> NaNAttack().apply(honest_grads=[np.zeros(2)])
    array([nan, nan])
    """

    def emit(self, rows: Rows, plan: Any, span: Span, out: Array) -> None:
        """Write NaN."""
        fill(out, math.nan)
