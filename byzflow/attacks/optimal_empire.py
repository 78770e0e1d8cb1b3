"""Empire, as strong as the rule in use lets it be."""

from __future__ import annotations

from collections.abc import Sequence

from byzflow.attacks.adaptive import AdaptiveAttack
from byzflow.attacks.empire import EmpireAttack
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen

__all__ = ("OptimalEmpire",)


@frozen
class OptimalEmpire(AdaptiveAttack):
    """Send ``-t * mean`` of the honest vectors, with the t that harms the rule in use most.

    t is found by a line search from 0 that maximises ``|R(honest, -t mean, ..., -t mean) - mean|``.

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
    .. [1] Xie, Koyejo, Gupta, "Fall of empires: Breaking Byzantine-tolerant SGD by inner product
       manipulation", UAI 2019 (PMLR 115, 2020).
    .. [2] Shejwalkar, Houmansadr, "Manipulating the Byzantine: Optimizing model poisoning attacks and
       defenses for federated learning", NDSS 2021 (the search).

    Examples
    --------
    >>> import numpy as np
    >>> class Mean:
    ...     def aggregate(self, gradients):
    ...         return sum(gradients) / len(gradients)
    >>> honest = [np.array([1.0]), np.array([3.0])]
    >>> bool(OptimalEmpire(1, Mean()).apply(honest_grads=honest) < -20.0)
    True
    """

    def vector(self, honest: Sequence[Array], t: float) -> Array:
        """Return ``-t * mean``."""
        return EmpireAttack(scale=-t).apply(honest_grads=honest)

    def points(self, honest: Sequence[Array]) -> list[Array]:
        """Return the mean."""
        return [EmpireAttack(scale=1.0).apply(honest_grads=honest)]

    def mixture(self, t: float) -> list[float]:
        """Return ``-t``."""
        return [-t]
