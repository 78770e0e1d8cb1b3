"""Attacks that leave the honest mean along one direction, as far as the spread of the honest rows hides."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field
from typing import ClassVar, NamedTuple

import numpy as np

from byzflow.attacks.base import RowAttack
from byzflow.kernels.around import DIRECTIONS, around_block, direction_of
from byzflow.kernels.blocks import Span
from byzflow.kernels.columns import mean_std
from byzflow.kernels.gram import gram_block
from byzflow.kernels.rows import Array, Rows
from byzflow.operators.base import frozen
from byzflow.operators.checks import choice, positive
from byzflow.operators.linear import geometry_of
from byzflow.operators.rows import Stats

__all__ = ("Around", "PerturbationAttack")


class Around(NamedTuple):
    """What is known of the h finite honest rows, their mean m and the direction p.

    Attributes
    ----------
    sq_distances : ndarray, (h, h)
        Squared distances between rows.
    from_mean : ndarray, (h,)
        ``|m - x_i|**2``.
    along : ndarray, (h,)
        ``<m - x_i, p>``.
    sq_length : float
        ``|p|**2``; greater than 0.
    """

    sq_distances: np.ndarray
    from_mean: np.ndarray
    along: np.ndarray
    sq_length: float


@frozen
class PerturbationAttack(RowAttack):
    """Send ``mean - gamma * p``; a subclass says how large gamma may be.

    Parameters
    ----------
    direction : {"std", "sign", "unit"}, default "std"
        What p is: the standard deviation of every coordinate, the sign of the mean, or the mean itself.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ValueError
        If `direction` is none of these, or `chunk_size` not positive.
    """

    direction: str = "std"
    chunk_size: int = field(default=8192, kw_only=True)
    uses_honest_grads: ClassVar[bool] = True
    measures: ClassVar[bool] = True
    supports_barriered_subtasks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        choice("direction", self.direction, DIRECTIONS)
        positive("chunk_size", self.chunk_size)

    @abstractmethod
    def gamma(self, around: Around) -> float:
        """Return the largest step that stays hidden."""

    def measure(self, rows: Rows, span: Span) -> Stats:
        """Return the block's Gram matrix, and what it adds to the distances from the mean and along p."""
        return {**gram_block(rows, span), **around_block(rows, span, self.direction)}

    def solve(self, stats: Stats, n: int) -> float:
        """Return gamma; 0 if there is no direction."""
        geometry = geometry_of(stats, n, ())
        here = geometry.finite
        length = float(stats.get("sq_length", 0.0))
        if not here.any() or not length > 0.0:
            return 0.0
        distances = geometry.sq_distances[np.ix_(here, here)]
        return self.gamma(Around(distances, stats["from_mean"][here], stats["along"][here], length))

    def emit(self, rows: Rows, plan: float, span: Span, out: Array) -> None:
        """Write mean - gamma p of one block."""
        X = rows.window(span)
        if self.direction == "std":
            out[0, :] = mean_std(X, -plan)
            return
        mean = mean_std(X, 0.0)
        # The length of p does not matter: gamma makes up for it.
        out[0, :] = mean - plan * direction_of(self.direction, mean, mean)
