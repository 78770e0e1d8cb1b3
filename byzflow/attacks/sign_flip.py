"""The sign flip: the node's own vector, turned round."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from byzflow.attacks.base import ElementwiseAttack
from byzflow.kernels.blocks import Span
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.checks import finite, positive

__all__ = ("SignFlipAttack",)


@frozen
class SignFlipAttack(ElementwiseAttack):
    """Send ``scale`` times the vector that the node would send if it were honest.

    Parameters
    ----------
    scale : float, default -1.0
        Factor; finite.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ValueError
        If `scale` is not finite, or `chunk_size` not positive.

    Notes
    -----
    Element-wise: one pass over one vector, O(d).

    References
    ----------
    .. [1] Allen-Zhu, Ebrahimianghazani, Li, Alistarh, "Byzantine-resilient non-convex stochastic gradient
       descent", ICLR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> SignFlipAttack(scale=-2.0).apply(base_grad=np.array([1.0, -3.0]))
    array([-2.,  6.])
    """

    scale: float = -1.0
    chunk_size: int = field(default=8192, kw_only=True)
    uses_base_grad: ClassVar[bool] = True

    def __post_init__(self) -> None:
        finite("scale", self.scale)
        positive("chunk_size", self.chunk_size)

    def elements(self, x: Array, span: Span) -> Array:
        """Return the block times `scale`."""
        return x * float(self.scale)
