"""Static clipping: no row is longer than a threshold."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np

from byzflow.kernels.small import compiled
from byzflow.operators.base import frozen
from byzflow.operators.checks import positive, real
from byzflow.operators.geometry import Geometry
from byzflow.pre_aggregators.base import LinearPreAggregator

__all__ = ("Clipping", "clipping_weights")


def clipping_weights(geometry: Geometry, threshold: float) -> np.ndarray:
    """Return the diagonal (n, n) weights that shorten rows to a norm; 0 for a row that is not finite."""
    W: np.ndarray = _factors(geometry.norms, geometry.finite, float(threshold))
    return W


@compiled
def _factors(norms: np.ndarray, finite: np.ndarray, threshold: float) -> np.ndarray:
    """Return how much of every row is left, on the diagonal."""
    n = len(norms)
    W = np.zeros((n, n))
    for i in range(n):
        if finite[i]:
            W[i, i] = threshold / norms[i] if norms[i] > threshold else 1.0
    return W


@frozen
class Clipping(LinearPreAggregator):
    """Shorten every row to a norm of at most ``threshold``.

    ``y_i = x_i min(1, threshold / |x_i|)``. Directions are kept, zero stays zero, and a row that is not
    finite becomes zero. A threshold that fits one phase of training rarely fits another: see `ARC`.

    Parameters
    ----------
    threshold : float, default 2.0
        Largest norm that is left alone, ``>= 0`` [units of the rows].
    chunk_size : int, default 32
        Scheduling hint [rows]; never changes the result.

    Raises
    ------
    ValueError
        If `threshold` is negative, or `chunk_size` not positive.

    Notes
    -----
    Linear: one pass for the norms and one to write n rows, O(n d) each. Memory O(n**2) beyond input and
    output. Folklore; analysed with robust aggregation in [1]_.

    References
    ----------
    .. [1] Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan, "Adaptive gradient clipping for robust
       federated learning", arXiv 2405.14432, 2024.

    Examples
    --------
    >>> Clipping(threshold=5.0).pre_aggregate([np.array([6.0, 8.0]), np.array([0.0, 1.0])])
    [array([3., 4.]), array([0., 1.])]
    """

    threshold: float = 2.0
    chunk_size: int = field(default=32, kw_only=True)
    uses: ClassVar[frozenset[str]] = frozenset({"norms"})
    name: ClassVar[str] = "pre-agg/clipping"

    def __post_init__(self) -> None:
        real("threshold", self.threshold, least=0.0)
        positive("chunk_size", self.chunk_size)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return the factor of every row, on the diagonal."""
        return clipping_weights(geometry, self.threshold)
