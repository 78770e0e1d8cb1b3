"""ARC: clipping with a threshold that the rows set."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np

from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, positive, tolerates
from byzflow.operators.geometry import Geometry
from byzflow.pre_aggregators.base import LinearPreAggregator
from byzflow.pre_aggregators.clipping import clipping_weights

__all__ = ("ARC",)


@frozen
class ARC(LinearPreAggregator):
    """Adaptive robust clipping: shorten the longest rows to the norm of the longest one left alone.

    With ``k = floor(2 f (n - f) / n)``, at most ``n - 1``, and C the (n - k)-th smallest norm:
    ``y_i = x_i min(1, C / |x_i|)``. A row that is not finite counts as infinitely long and becomes zero.

    Parameters
    ----------
    f : int, default 0
        Byzantine rows tolerated; ``f <= n``, checked at call. Nothing is clipped for ``f = 0`` or ``f = n``.
    chunk_size : int, default 32
        Scheduling hint [rows]; never changes the result.

    Raises
    ------
    ToleranceError
        If ``f > n``.

    Notes
    -----
    Linear: one pass for the norms and one to write n rows, O(n d) each. Memory O(n**2) beyond input and
    output.

    References
    ----------
    .. [1] Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan, "Adaptive gradient clipping for robust
       federated learning" (first titled "The vital role of gradient clipping in Byzantine-resilient
       distributed learning"), arXiv 2405.14432, 2024.

    Examples
    --------
    >>> ARC(f=1).pre_aggregate([np.full(1, 1.0), np.full(1, -2.0), np.full(1, 90.0)])
    [array([1.]), array([-2.]), array([2.])]
    """

    f: int = 0
    chunk_size: int = field(default=32, kw_only=True)
    uses: ClassVar[frozenset[str]] = frozenset({"norms"})
    name: ClassVar[str] = "pre-agg/arc"

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        positive("chunk_size", self.chunk_size)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless ``f <= n``."""
        tolerates(self, self.f <= n, "f <= n", n)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return the factor of every row, on the diagonal."""
        n = geometry.n
        k = min(2 * self.f * (n - self.f) // n, n - 1)
        threshold = np.partition(geometry.norms, n - k - 1)[n - k - 1]
        return clipping_weights(geometry, float(threshold))
