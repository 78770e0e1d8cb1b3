"""Fang's attack on Krum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field
from typing import ClassVar

import array_api_compat
import numpy as np
import torch

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
    is surely too large, ``(max |x_i| + max |x_i - x_j| sqrt((h - 1) / (h - f))) / |sign(x_k)|``, lambda is
    halved until Krum, with ``n = h + f`` rows and ``n - f - 1`` neighbours, would pick the vector over every
    honest one; then it is bisected, to the end of one interval, where Krum picks several of them.

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
        # Which vector Krum picks shows when all columns are seen: the products with the signs of each.
        return {**stats, **_along_signs(rows.read(span), np.isfinite(stats["norms"]))}

    def solve(self, stats: Stats, n: int) -> tuple[float, int]:
        """Return lambda and the k of x_k."""
        geometry = geometry_of(stats, n, ())
        here = np.flatnonzero(geometry.finite)
        if not len(here) or not stats:
            return 0.0, 0
        honest = geometry.sq_distances
        among = honest[np.ix_(here, here)]
        k = int(here[_pick(among, max(1, n - self.f - 1))])
        length = float(stats["sq_lengths"][k])
        if not length > 0.0:
            return 0.0, k
        norms, along = geometry.norms[here] ** 2, stats["along"][here, k]
        # A non-finite row is nobody's neighbour: it only makes honest scores infinite.
        ranked = np.sort(honest, axis=1)

        def picked(step: float) -> bool:
            away = np.full(n, np.inf)
            away[here] = np.maximum(norms + 2.0 * step * along + step * step * length, 0.0)
            return _is_picked(ranked, away, self.f)

        return _largest(picked, self._too_large(among, norms, length, n)), k

    def _too_large(self, honest: np.ndarray, norms: np.ndarray, length: float, n: int) -> float:
        """Return a lambda at which the score of the vector exceeds that of any honest one."""
        radius = math.sqrt(honest.max()) * math.sqrt((n - 1) / (n - self.f))
        return (math.sqrt(norms.max()) + radius) / math.sqrt(length) or 1.0

    def emit(self, rows: Rows, plan: tuple[float, int], span: Span, out: Array) -> None:
        """Write -lambda sign(x_k) of one block."""
        step, k = plan
        row = rows.pick(np.array([k])).read(span)[0, :]
        out[0, :] = -step * array_api_compat.array_namespace(row).sign(row) if step else 0.0


def _along_signs(X: Array, alive: np.ndarray) -> dict[str, np.ndarray]:
    """Return the products of the rows with the signs of each, (n, n), and the squared lengths of the signs.

    Those of float32 rows are float32 where that holds the products of the rows that are alive.
    """
    xp = array_api_compat.array_namespace(X)
    signs = xp.sign(X)
    lengths = to_host(xp.sum(xp.abs(signs), axis=1))  # a count: exact in any dtype
    if isinstance(X, np.ndarray):
        along = torch.mm(torch.from_numpy(X), torch.from_numpy(signs).T).numpy()
        if X.dtype == np.float32 and not np.isfinite(along[np.ix_(alive, alive)]).all():
            along = small.product(X.astype(np.float64), signs.T.astype(np.float64))
    else:
        X, signs = xp.astype(X, xp.float64), xp.astype(signs, xp.float64)
        along = to_host(xp.matmul(X, xp.matrix_transpose(signs)))
    return {"along": along.astype(np.float64), "sq_lengths": lengths.astype(np.float64)}


def _pick(honest: np.ndarray, neighbours: int) -> int:
    """Return the row with the least sum of squared distances to its nearest `neighbours` others."""
    return int(np.sort(honest, axis=1)[:, : neighbours + 1].sum(axis=1).argmin())


def _is_picked(ranked: np.ndarray, away: np.ndarray, f: int) -> bool:
    """Whether Krum picks one of f equal vectors, `away` (h,) from h honest ones, before any of these.

    The latter's squared distances to one another, (h, h), are `ranked` in each row.
    """
    h = len(away)
    own = np.sort(away)[: h - f].sum()
    sums = np.hstack((np.zeros((h, 1)), ranked.cumsum(axis=1)))
    equal = np.clip(h - (ranked <= away[:, None]).sum(axis=1), 0, f)  # how many of the f are among h nearest
    scores = sums[np.arange(h), h - equal] + equal * np.where(equal > 0, away, 0.0)
    return bool(own < scores.min())


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
