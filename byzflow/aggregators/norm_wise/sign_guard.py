"""SignGuard: rows of a usual length whose signs look like those of most rows."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import array_api_compat
import numpy as np

from byzflow.aggregators.base import MixingAggregator
from byzflow.aggregators.norm_wise._clusters import largest_mode
from byzflow.kernels.blocks import Span
from byzflow.kernels.gram import norms_block
from byzflow.kernels.host import to_host
from byzflow.kernels.rows import Rows
from byzflow.operators.base import frozen
from byzflow.operators.checks import positive, real
from byzflow.operators.linear import Weights, as_plan, geometry_of
from byzflow.operators.rows import Stats

__all__ = ("SignGuard",)


@frozen
class SignGuard(MixingAggregator):
    """Average the rows that pass a test of length and a test of signs, shortened to the median length.

    With M the (lower) median norm, a row passes the first test if ``low M <= |x_i| <= high M``. Its shares of
    positive, negative and zero coordinates are three features; it passes the second test if it is in the
    largest cluster that mean shift finds. The rows that pass both are scaled by ``min(1, M / |x_i|)`` and
    averaged. If none does, those that pass the first test are.

    Parameters
    ----------
    low, high : float, default 0.1 and 3.0
        Bounds of the norm, in median norms; ``0 <= low <= high``, with ``low <= 1 <= high``.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ToleranceError
        If fewer than half of the rows are finite.
    ValueError
        If the bounds do not hold 1 between them.

    Notes
    -----
    Two passes: norms and counts of signs, O(n d); the weighted sum, O(n d). It assumes that most rows are
    honest. In mean shift every row's features climb to the mean of those within the bandwidth, which is
    the mean distance to the ``n // 2``-th nearest row, itself included. A cluster is what comes to rest
    within the bandwidth of one row; of equally large ones, that of the lowest row counts.

    The authors' program (JianXu95/SignGuard) counts signs on a random tenth of the coordinates, all of
    which cost no more here; divides each share by the greatest one; and, by scikit-learn's mean shift
    with the same bandwidth, leaves out rows that are farther from their cluster's centre than that. So it
    keeps fewer rows, honest ones too.

    References
    ----------
    .. [1] Xu, Huang, Song, Lan, "Byzantine-robust federated learning through collaborative malicious
       gradient filtering", ICDCS 2022.

    Examples
    --------
    >>> rows = [np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.array([-1.0, -2.0])]
    >>> SignGuard().aggregate(rows)
    array([1.5, 1.5])
    """

    low: float = 0.1
    high: float = 3.0
    chunk_size: int = field(default=8192, kw_only=True)
    name: ClassVar[str] = "sign-guard"

    def __post_init__(self) -> None:
        real("low", self.low, least=0.0)
        real("high", self.high, least=0.0)
        if not self.low <= 1.0 <= self.high:
            raise ValueError(
                f"SignGuard needs low <= 1 <= high; got low={self.low:g}, high={self.high:g}. Widen them."
            )
        positive("chunk_size", self.chunk_size)

    def measure(self, rows: Rows, span: Span) -> Stats:
        """Return the block's squared norms and its counts of positive, negative and all coordinates."""
        stats = norms_block(rows, span)
        X = rows.read(span)
        xp = array_api_compat.array_namespace(X)
        signs = [to_host(xp.sum(xp.astype(side, xp.int64), axis=1)) for side in (X > 0, X < 0)]
        return {**stats, "signs": np.column_stack(signs).astype(np.float64), "count": float(span.width)}

    def solve(self, stats: Stats, n: int) -> Weights:
        """Return the weights of the rows that pass."""
        geometry = geometry_of(stats, n, ())
        geometry.require_finite((n + 1) // 2, "SignGuard")
        norms = geometry.norms
        good = np.flatnonzero(geometry.finite)
        median = np.sort(norms)[(n - 1) // 2]
        usual = good[(norms[good] >= self.low * median) & (norms[good] <= self.high * median)]
        kept = usual
        if stats:
            shares = stats["signs"][good] / stats["count"]
            features = np.column_stack((shares, 1.0 - shares.sum(axis=1)))
            kept = np.intersect1d(usual, good[largest_mode(features)])
        kept = kept if len(kept) else usual
        W = np.zeros((1, n))
        W[0, kept] = np.minimum(1.0, median / np.maximum(norms[kept], 1e-300)) / len(kept)
        return as_plan(W, geometry)
