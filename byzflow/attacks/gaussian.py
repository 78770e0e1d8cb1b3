"""Gaussian noise."""

from __future__ import annotations

from dataclasses import field

import numpy as np

from byzflow.attacks.shape import ShapeAttack
from byzflow.kernels.blocks import Span
from byzflow.kernels.host import fill
from byzflow.kernels.noise import NormalColumns, NormalStream, fresh_seed
from byzflow.kernels.rows import Array, Rows
from byzflow.operators.base import frozen
from byzflow.operators.checks import finite, nonnegative, real
from byzflow.operators.rows import Stats

__all__ = ("GaussianAttack",)


@frozen
class GaussianAttack(ShapeAttack):
    """Send independent numbers from the normal distribution N(mu, sigma²).

    With a seed, the vector is ``numpy.random.default_rng(seed).normal(mu, sigma, d)``, cast to the dtype of
    the honest vectors, at every call and however the work is cut. Without one, every call draws anew.

    Parameters
    ----------
    mu : float, default 0.0
        Mean; finite.
    sigma : float, default 1.0
        Standard deviation; finite, at least 0.
    seed : int, optional
        Seed, at least 0.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ValueError
        If `sigma` or `seed` is negative, or `mu` or `sigma` not finite, or `chunk_size` not positive.

    Notes
    -----
    Element-wise; the honest vectors are not read. O(d) numbers in all without a seed. With one, O(d) for each
    thread or shard: it draws the stream up to its end and keeps its own columns, one block at a time.

    References
    ----------
    .. [1] Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine learning with adversaries: Byzantine tolerant
       gradient descent", NeurIPS 2017 (section 5).

    Examples
    --------
    >>> import numpy as np
    >>> sent = GaussianAttack(sigma=2.0, seed=7).apply(honest_grads=[np.zeros(3)])
    >>> bool((sent == np.random.default_rng(7).normal(0.0, 2.0, 3)).all())
    True
    """

    mu: float = 0.0
    sigma: float = 1.0
    seed: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        finite("mu", self.mu)
        finite("sigma", self.sigma)
        real("sigma", self.sigma, least=0.0)
        if self.seed is not None:
            nonnegative("seed", self.seed)

    def solve(self, stats: Stats, n: int) -> NormalStream | NormalColumns:
        """Return the noise, the same for all shards of this call."""
        if self.seed is None:
            return NormalColumns(fresh_seed(), float(self.mu), float(self.sigma))
        return NormalStream(int(self.seed), float(self.mu), float(self.sigma))

    def in_place(self, rows: Rows, plan: NormalStream | NormalColumns) -> bool:
        """Whether a compiled loop writes the numbers, of any columns alike."""
        return rows.host and isinstance(plan, NormalColumns)

    def emit(self, rows: Rows, plan: NormalStream | NormalColumns, span: Span, out: Array) -> None:
        """Write the numbers of one block."""
        if isinstance(plan, NormalColumns) and isinstance(out, np.ndarray):
            plan.write(span, out[0])
        elif isinstance(plan, NormalStream):
            fill(out[0, :], plan.read(span))
        else:
            fill(out[0, :], plan.read(span, np.float64 if "64" in str(out.dtype) else np.float32))
