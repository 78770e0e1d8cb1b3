"""Fang's attack on Krum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field
from typing import ClassVar

import array_api_compat
import numpy as np

from byzflow.attacks.base import RowAttack
from byzflow.exceptions import ToleranceError
from byzflow.kernels import small
from byzflow.kernels.blocks import Span
from byzflow.kernels.gram import gram_block
from byzflow.kernels.host import to_host
from byzflow.kernels.rows import Array, Rows
from byzflow.operators.base import frozen
from byzflow.operators.checks import positive
from byzflow.operators.linear import geometry_of
from byzflow.operators.rows import Stats

__all__ = ("FangKrumAttack",)

_HALVINGS = 60
_BISECTIONS = 40


@frozen
class FangKrumAttack(RowAttack):
    """Send ``-lambda * sign(x_k)`` with the largest lambda for which Krum still picks the vector.

    x_k is what Krum picks of the honest vectors alone: its signs say where the model would go without the
    attack. f nodes send the same vector, so that each has f - 1 neighbours at distance 0. From a lambda that
    is surely too large, lambda is halved until Krum, with ``n = h + f`` rows and ``n - f - 1`` neighbours,
    would pick the vector over every honest one; then it is bisected.

    Parameters
    ----------
    f : int
        Byzantine nodes that send the vector; ``1 <= f < h``, checked at call.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ToleranceError
        If ``f < 1`` or there are not more honest vectors than f.

    Notes
    -----
    Two passes, O(h**2 d) for the distances. If Krum picks the vector for no lambda, the smallest one tried
    is sent. Honest vectors that are not finite count as infinitely far. The paper starts from the model that
    the server sent; here vectors are what nodes send, so the server's own point is the origin. What the f
    nodes would send if they were honest is not known here and takes no part in the choice of x_k, which has
    ``h - f - 1`` neighbours, at least one. An attacker who knows no other node would take the mean of his own
    vectors for x_k (the paper's partial knowledge).

    References
    ----------
    .. [1] Fang, Cao, Jia, Gong, "Local model poisoning attacks to Byzantine-robust federated learning",
       USENIX Security 2020.

    Examples
    --------
    >>> honest = [np.array([v]) for v in (1.0, 2.0, 3.0, 4.0)]
    >>> sent = FangKrumAttack(f=2).apply(honest_grads=honest)
    >>> bool(-1.0 < sent[0] < 0.0)
    True
    """

    f: int
    chunk_size: int = field(default=8192, kw_only=True)
    uses_honest_grads: ClassVar[bool] = True
    measures: ClassVar[bool] = True
    supports_barriered_subtasks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("f", self.f)
        positive("chunk_size", self.chunk_size)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless the honest vectors are more than f."""
        if not 1 <= self.f < n:
            raise ToleranceError(
                f"FangKrumAttack needs 1 <= f < h honest vectors; got f={self.f}, h={n}. Lower f."
            )

    def measure(self, rows: Rows, span: Span) -> Stats:
        """Return the block's Gram matrix, and what it adds to the products with the signs."""
        stats = gram_block(rows, span)
        X = rows.read(span)
        xp = array_api_compat.array_namespace(X)
        X = xp.astype(X, xp.float64)
        signs = xp.sign(X)
        # Which vector Krum picks shows when all columns are seen: the products with the signs of each.
        if isinstance(X, np.ndarray):
            along = small.product(X, signs.T)
        else:
            along = to_host(xp.matmul(X, xp.matrix_transpose(signs)))
        return {**stats, "along": along, "sq_lengths": to_host(xp.sum(signs * signs, axis=1))}

    def solve(self, stats: Stats, n: int) -> tuple[float, int]:
        """Return lambda and the k of x_k."""
        geometry = geometry_of(stats, n, ())
        here = np.flatnonzero(geometry.finite)
        if not len(here) or not stats:
            return 0.0, 0
        k = int(here[_pick(geometry.sq_distances[np.ix_(here, here)], max(1, n - self.f - 1))])
        length = float(stats["sq_lengths"][k])
        if not length > 0.0:
            return 0.0, k
        norms, along = geometry.norms[here] ** 2, stats["along"][here, k]
        # A non-finite row is nobody's neighbour: it only makes honest scores infinite.
        honest = geometry.sq_distances

        def picked(step: float) -> bool:
            away = np.full(n, np.inf)
            away[here] = np.maximum(norms + 2.0 * step * along + step * step * length, 0.0)
            return _is_picked(honest, away, self.f)

        return _largest(picked, self._too_large(honest[np.ix_(here, here)], norms, length, n)), k

    def _too_large(self, honest: np.ndarray, norms: np.ndarray, length: float, n: int) -> float:
        """Return a lambda at which the score of the vector exceeds that of any honest one."""
        radius = math.sqrt(honest.max()) * math.sqrt((n - 1) / (n - self.f))
        return (math.sqrt(norms.max()) + radius) / math.sqrt(length) or 1.0

    def emit(self, rows: Rows, plan: tuple[float, int], span: Span, out: Array) -> None:
        """Write -lambda sign(x_k) of one block."""
        step, k = plan
        row = rows.read(span)[k, :]
        out[0, :] = -step * array_api_compat.array_namespace(row).sign(row) if step else 0.0


def _pick(honest: np.ndarray, neighbours: int) -> int:
    """Return the row with the least sum of squared distances to its nearest `neighbours` others."""
    return int(np.sort(honest, axis=1)[:, : neighbours + 1].sum(axis=1).argmin())


def _is_picked(honest: np.ndarray, away: np.ndarray, f: int) -> bool:
    """Whether Krum picks one of f equal vectors, `away` (h,) from h honest ones, before any of these."""
    h = len(away)
    own = np.sort(away)[: h - f].sum()
    seen = np.sort(np.column_stack((honest, np.tile(away[:, None], f))), axis=1)
    return bool(own < seen[:, :h].sum(axis=1).min())


def _largest(picked: Callable[[float], bool], too_large: float) -> float:
    """Return the largest step that is picked, found by halving and bisection."""
    low, high = too_large, too_large
    for _ in range(_HALVINGS):
        low, high = low / 2.0, low
        if picked(low):
            break
    else:
        return low
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if picked(middle) else (low, middle)
    return low
