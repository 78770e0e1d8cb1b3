"""Fang's attack on the coordinate-wise trimmed mean and median."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import array_api_compat
import numpy as np

from byzflow.attacks.base import RowAttack
from byzflow.kernels.blocks import Span
from byzflow.kernels.columns import mean_std
from byzflow.kernels.noise import fresh_seed, uniform
from byzflow.kernels.rows import Array, Rows
from byzflow.operators.base import frozen
from byzflow.operators.checks import finite, nonnegative, positive, real
from byzflow.operators.rows import Stats

__all__ = ("FangTrimmedMeanAttack",)


@frozen
class FangTrimmedMeanAttack(RowAttack):
    """Send, in every coordinate, a value just beyond the honest ones, against the sign of their mean.

    Where the honest mean is negative, a uniform draw from ``[max, b max]`` (``[max, max / b]`` if the
    maximum is not positive); elsewhere from ``[min / b, min]`` (``[b min, min]`` if the minimum is not
    positive). A trimmed mean or a median then cuts honest values off at the other end.

    Parameters
    ----------
    b : float, default 2.0
        How far beyond; finite, at least 1.
    seed : int, optional
        Seed, at least 0: every call sends the same for the same honest vectors. Give each node its own.
        Without one every call draws anew.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ValueError
        If ``b < 1``, `seed` is negative, or `chunk_size` not positive.

    Notes
    -----
    Column-wise: one pass, O(n d). Values that are not finite are left out. Column c gets number c of a
    counter-based stream, so the cut does not matter.

    References
    ----------
    .. [1] Fang, Cao, Jia, Gong, "Local model poisoning attacks to Byzantine-robust federated learning",
       USENIX Security 2020.

    Examples
    --------
    >>> honest = [np.array([1.0, -3.0]), np.array([2.0, -1.0])]
    >>> sent = FangTrimmedMeanAttack(seed=0).apply(honest_grads=honest)
    >>> bool(0.5 <= sent[0] <= 1.0), bool(-1.0 <= sent[1] <= -0.5)
    (True, True)
    """

    b: float = 2.0
    seed: int | None = field(default=None, kw_only=True)
    chunk_size: int = field(default=8192, kw_only=True)
    uses_honest_grads: ClassVar[bool] = True

    def __post_init__(self) -> None:
        finite("b", self.b)
        real("b", self.b, least=1.0)
        if self.seed is not None:
            nonnegative("seed", self.seed)
        positive("chunk_size", self.chunk_size)

    def solve(self, stats: Stats, n: int) -> int:
        """Return the seed, the same for all shards of this call."""
        return fresh_seed() if self.seed is None else int(self.seed)

    def emit(self, rows: Rows, plan: int, span: Span, out: Array) -> None:
        """Write one block."""
        X = rows.read(span)
        xp = array_api_compat.array_namespace(X)
        mean = mean_std(X, 0.0)
        lowest, highest = xp.min(X, axis=0), xp.max(X, axis=0)
        if not bool(xp.all(xp.isfinite(lowest) & xp.isfinite(highest))):
            here = xp.isfinite(X)
            lowest = xp.min(xp.where(here, X, xp.full_like(X, np.inf)), axis=0)
            highest = xp.max(xp.where(here, X, xp.full_like(X, -np.inf)), axis=0)
        upwards = mean < 0
        edge = xp.where(upwards, highest, lowest)
        top = float(xp.finfo(X.dtype).max) / self.b * (1.0 - 1e-6)  # what is farther out cannot be stretched
        stretched = xp.where(xp.abs(edge) < top, xp.clip(edge, -top, top) * self.b, edge)
        farther = xp.where(upwards == (edge > 0), stretched, edge / self.b)
        draw = xp.asarray(uniform((plan,), span), dtype=X.dtype, device=array_api_compat.device(X))
        sent = edge + draw * (farther - edge)
        out[0, :] = xp.where(xp.isfinite(edge), sent, xp.zeros_like(sent))
