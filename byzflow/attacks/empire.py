"""Empire: the honest mean, turned round."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np

from byzflow.attacks.base import LinearAttack
from byzflow.exceptions import ToleranceError
from byzflow.operators.base import frozen
from byzflow.operators.checks import finite, positive
from byzflow.operators.geometry import Geometry

__all__ = ("EmpireAttack",)


@frozen
class EmpireAttack(LinearAttack):
    """Send a multiple of the honest mean, by default its negative.

    ``a = scale * mean(honest)``: a small negative scale turns the inner product of aggregate and true
    gradient negative while staying inconspicuous. Honest vectors that are not finite are left out.

    Parameters
    ----------
    scale : float, default -1.0
        Factor; finite.
    chunk_size : int, default 8
        Scheduling hint [rows]; never changes the result.

    Raises
    ------
    ToleranceError
        If no honest vector is finite.
    ValueError
        If ``honest_grads`` is missing or empty.

    Notes
    -----
    Linear: one pass, O(n d). Memory O(1) beyond the output.

    References
    ----------
    .. [1] Xie, Koyejo, Gupta, "Fall of empires: Breaking Byzantine-tolerant SGD by inner product
       manipulation", UAI 2019 (PMLR 115, 2020).

    Examples
    --------
    >>> EmpireAttack(scale=-0.5).apply(honest_grads=[np.zeros(2), np.full(2, 4.0)])
    array([-1., -1.])
    """

    scale: float = -1.0
    chunk_size: int = field(default=8, kw_only=True)
    uses_honest_grads: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset()
    constant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        finite("scale", self.scale)
        positive("chunk_size", self.chunk_size)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return equal weights that sum to the scale."""
        count = np.count_nonzero(geometry.finite)
        if count == 0:
            raise ToleranceError(
                f"EmpireAttack needs a finite honest vector; got none among {geometry.n}. "
                f"Find out what makes the honest nodes diverge."
            )
        return geometry.finite * (self.scale / count)
