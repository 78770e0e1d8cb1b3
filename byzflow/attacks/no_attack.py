"""No attack: the Byzantine node is honest after all."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from byzflow.attacks.base import ElementwiseAttack
from byzflow.kernels.blocks import Span
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.checks import positive

__all__ = ("NoAttack",)


@frozen
class NoAttack(ElementwiseAttack):
    """Send a copy of the honest vector: the baseline that every attack is compared with.

    ``a = base_grad``.

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
    Element-wise: one pass over one vector, O(d). Folklore.

    Examples
    --------
    >>> import numpy as np
    >>> NoAttack().apply(base_grad=np.array([1.0, -3.0]))
    array([ 1., -3.])
    """

    chunk_size: int = field(default=8192, kw_only=True)
    uses_base_grad: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("chunk_size", self.chunk_size)

    def elements(self, x: Array, span: Span) -> Array:
        """Return the block as it is."""
        return x
