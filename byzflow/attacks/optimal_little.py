"""A little is enough, as much as the rule in use lets pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from byzflow.attacks.adaptive import AdaptiveAttack
from byzflow.attacks.base import ColumnwiseAttack
from byzflow.kernels.columns import mean_std
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.columnwise import reads_in_place

__all__ = ("OptimalLittle",)


@frozen
class _Deviating(ColumnwiseAttack):
    """``mean + t * std`` of every coordinate."""

    t: float
    uses_honest_grads: ClassVar[bool] = True

    @reads_in_place
    def columns(self, X: Array) -> Array:
        return mean_std(X, self.t)


@frozen
class OptimalLittle(AdaptiveAttack):
    """Send ``mean + t * std`` of the honest vectors, with the t that harms the rule in use most.

    ``std`` is the population standard deviation of every coordinate; t is found by a line search from 0 that
    maximises ``|R(honest, a(t), ..., a(t)) - mean|``.

    Parameters
    ----------
    f, aggregator, pre_aggregators, evaluations, reach
        As for `AdaptiveAttack`.

    Raises
    ------
    ToleranceError
        If the rule cannot work on the honest vectors and f more.

    Notes
    -----
    A pipeline of linear rules is tried on one Gram matrix, O(h**2 d) in all; any other one is run
    `evaluations` times. Of several peaks the search may find a lower one: see `AdaptiveAttack`.

    References
    ----------
    .. [1] Baruch, Baruch, Goldberg, "A little is enough: Circumventing defenses for distributed learning",
       NeurIPS 2019.
    .. [2] Shejwalkar, Houmansadr, "Manipulating the Byzantine: Optimizing model poisoning attacks and
       defenses for federated learning", NDSS 2021 (the search).

    Examples
    --------
    >>> import numpy as np
    >>> class Mean:
    ...     def aggregate(self, gradients):
    ...         return sum(gradients) / len(gradients)
    >>> honest = [np.array([1.0]), np.array([3.0])]
    >>> bool(OptimalLittle(1, Mean()).apply(honest_grads=honest) > 20.0)
    True
    """

    def vector(self, honest: Sequence[Array], t: float) -> Array:
        """Return ``mean + t * std``."""
        return _Deviating(t).apply(honest_grads=honest)

    def points(self, honest: Sequence[Array]) -> list[Array]:
        """Return the mean, and ``mean + std``: a point among the rows, so that an offset costs no digits."""
        return [self.vector(honest, 0.0), self.vector(honest, 1.0)]

    def mixture(self, t: float) -> list[float]:
        """Return the weights of the mean and of ``mean + std``."""
        return [1.0 - t, t]
