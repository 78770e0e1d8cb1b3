"""Divide and conquer (DnC): without the rows that stand out along the top direction of sampled columns."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np
import torch

from byzflow.aggregators.base import MixingAggregator
from byzflow.exceptions import ToleranceError
from byzflow.kernels.blocks import Span
from byzflow.kernels.gram import norms_block
from byzflow.kernels.rows import Rows
from byzflow.kernels.sample import Sample, sample_block
from byzflow.kernels.small import product
from byzflow.kernels.threads import one_thread
from byzflow.operators.base import frozen
from byzflow.operators.checks import finite, nonnegative, positive, real
from byzflow.operators.linear import Weights, as_plan, geometry_of
from byzflow.operators.rows import Stats

__all__ = ("DivideAndConquer", "outlyingness")


@frozen
class DivideAndConquer(MixingAggregator):
    """Average the rows that no spectral test throws out.

    Each of the `iterations` draws `dimension` coordinates, centres them, finds the direction v of greatest
    variance and throws out the ``c f`` rows with the greatest ``<x_i - mean, v>**2``; equal ones: the
    higher node index goes first. The answer is the mean of the rows that every iteration keeps, or, if there
    is none, of those that were thrown out least often.

    Parameters
    ----------
    f : int
        Byzantine rows tolerated; ``2 f < n`` and ``c f < n``, checked at call.
    c : float, default 1.0
        How many rows to throw out for each of f; at least 0 and finite.
    iterations : int, default 1
        Draws.
    dimension : int, default 10000
        Coordinates in a draw; all of them if there are fewer.
    seed : int, default 0
        Seed of the draws; every call draws the same coordinates.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ToleranceError
        If ``2 f >= n`` or ``c f >= n``, or fewer than n - f rows are finite.

    Notes
    -----
    Two passes: one that draws and looks which rows are finite, O(n d); one for the mean, O(n d). Between
    them ``iterations`` eigenvalue problems of size n, O(n**2 dimension). A coordinate is drawn if its random
    key is among the lowest, which does not depend on how the columns are cut.

    References
    ----------
    .. [1] Shejwalkar, Houmansadr, "Manipulating the Byzantine: Optimizing model poisoning attacks and
       defenses for federated learning", NDSS 2021.

    Examples
    --------
    >>> rows = [np.array([v, 0.0]) for v in (1.0, 2.0, 3.0, 90.0)]
    >>> DivideAndConquer(f=1).aggregate(rows)
    array([2., 0.])
    """

    f: int
    c: float = field(default=1.0, kw_only=True)
    iterations: int = field(default=1, kw_only=True)
    dimension: int = field(default=10_000, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    chunk_size: int = field(default=8192, kw_only=True)
    name: ClassVar[str] = "divide-and-conquer"

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        real("c", self.c, least=0.0)
        finite("c", self.c)
        positive("iterations", self.iterations)
        positive("dimension", self.dimension)
        nonnegative("seed", self.seed)
        positive("chunk_size", self.chunk_size)

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless rows are left and most of them are honest."""
        if 2 * self.f >= n or self.c * self.f >= n:
            raise ToleranceError(
                f"DivideAndConquer needs 2 f < n and c f < n; got f={self.f}, c={self.c:g}, n={n}. "
                f"Lower f or c, or add nodes."
            )

    def measure(self, rows: Rows, span: Span) -> Stats:
        """Return the block's norms and what it may add to each draw."""
        stats: dict[str, np.ndarray | Sample] = {**norms_block(rows, span)}
        X = rows.read(span)
        for i in range(self.iterations):
            stats[f"draw-{i}"] = sample_block(X, (self.seed, i), span, self.dimension)
        return stats

    def solve(self, stats: Stats, n: int) -> Weights:
        """Return the weights of the rows to average."""
        geometry = geometry_of(stats, n, ())
        geometry.require_finite(n - self.f, "DivideAndConquer")
        thrown = np.zeros(n, np.intp)
        for i in range(self.iterations if stats else 0):
            scores = np.full(n, np.inf)
            scores[geometry.finite] = outlyingness(stats[f"draw-{i}"].columns[geometry.finite])
            thrown[geometry.rank(scores)[n - int(self.c * self.f) :]] += 1
        thrown[~geometry.finite] = self.iterations + 1
        kept = thrown == thrown.min()
        return as_plan(np.atleast_2d(kept / np.count_nonzero(kept)), geometry)


def outlyingness(X: np.ndarray) -> np.ndarray:
    """Return the squared projection of every row on the direction of greatest variance, (n,).

    Examples
    --------
    >>> outlyingness(np.array([[0.0, 1.0], [0.0, 1.0], [3.0, 1.0]]))
    array([1., 1., 4.])
    """
    centred: np.ndarray = X.astype(np.float64)
    centred -= centred.mean(axis=0)
    with one_thread():
        _, vectors = torch.linalg.eigh(torch.from_numpy(product(centred, centred.T)))
    direction = product(centred.T, vectors[:, -1].numpy())
    length = float(np.linalg.norm(direction))
    squares: np.ndarray = np.square(product(centred, direction / (length or 1.0)))
    return squares
