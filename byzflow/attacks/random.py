"""Uniform noise."""

from __future__ import annotations

from dataclasses import field

from byzflow.attacks.shape import ShapeAttack
from byzflow.kernels.blocks import Span
from byzflow.kernels.host import fill
from byzflow.kernels.noise import fresh_seed, uniform
from byzflow.kernels.rows import Array, Rows
from byzflow.operators.base import frozen
from byzflow.operators.checks import finite, nonnegative
from byzflow.operators.rows import Stats

__all__ = ("RandomAttack",)


@frozen
class RandomAttack(ShapeAttack):
    """Send independent numbers, uniform between `low` and `high`.

    ``a_c ~ U[low, high)`` for every coordinate c. With a seed every call sends the same vector, however the
    work is cut; without one, every call draws anew.

    Parameters
    ----------
    low, high : float, default -1.0 and 1.0
        Bounds; finite, ``low <= high``.
    seed : int, optional
        Seed, at least 0.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ValueError
        If a bound is not finite, ``low > high``, `seed` is negative, or `chunk_size` not positive.

    Notes
    -----
    Element-wise, O(d); the honest vectors are not read. Column c gets number c of a counter-based stream,
    so that no shard draws what it does not send.

    References
    ----------
    .. [1] Guerraoui, Guirguis, Plassmann, Ragot, Rouault, "Garfield: System support for Byzantine machine
       learning", DSN 2021.

    Examples
    --------
    >>> import numpy as np
    >>> sent = RandomAttack(low=2.0, high=3.0, seed=1).apply(honest_grads=[np.zeros(100)])
    >>> bool((sent >= 2.0).all() and (sent <= 3.0).all())
    True
    """

    low: float = -1.0
    high: float = 1.0
    seed: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        finite("low", self.low)
        finite("high", self.high)
        if self.low > self.high:
            raise ValueError(
                f"RandomAttack needs low <= high; got low={self.low}, high={self.high}. Swap them."
            )
        if self.seed is not None:
            nonnegative("seed", self.seed)

    def solve(self, stats: Stats, n: int) -> int:
        """Return the seed, the same for all shards of this call."""
        return fresh_seed() if self.seed is None else int(self.seed)

    def emit(self, rows: Rows, plan: int, span: Span, out: Array) -> None:
        """Write the numbers of one block."""
        fill(out[0, :], self.low + (self.high - self.low) * uniform((plan,), span))
