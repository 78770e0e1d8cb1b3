"""Min-sum: no farther from all honest rows together than an honest row is."""

from __future__ import annotations

import numpy as np

from byzflow.attacks.perturbation import Around, PerturbationAttack
from byzflow.operators.base import frozen

__all__ = ("MinSumAttack",)


@frozen
class MinSumAttack(PerturbationAttack):
    """Send ``mean - gamma * p`` with the largest gamma that a sum of squared distances hides.

    ``sum_i |a - x_i|**2 <= max_j sum_i |x_j - x_i|**2``, so that, in closed form,
    ``gamma**2 = (max_j sum_i |x_j - x_i|**2 - sum_i |mean - x_i|**2) / (n |p|**2)``, where all rows
    are finite.

    Parameters
    ----------
    direction : {"std", "sign", "unit"}, default "std"
        What p is: the standard deviation of every coordinate, the sign of the mean, or the mean itself.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ValueError
        If `direction` is unknown, or `chunk_size` not positive.

    Notes
    -----
    Two passes, O(n**2 d) for the distances. The bound is the paper's, the largest sum over j; some programs
    take the smallest. Honest rows that are not finite do not bound gamma; in the mean and the deviation,
    values that are not finite are left out.

    References
    ----------
    .. [1] Shejwalkar, Houmansadr, "Manipulating the Byzantine: Optimizing model poisoning attacks and
       defenses for federated learning", NDSS 2021.

    Examples
    --------
    >>> honest = [np.array([1.0]), np.array([3.0])]
    >>> MinSumAttack("sign").apply(honest_grads=honest)
    array([1.])
    """

    def gamma(self, around: Around) -> float:
        """Return what the greatest sum of squared distances leaves."""
        most = around.sq_distances.sum(axis=1).max()
        left = (most - around.from_mean.sum()) / len(around.from_mean)
        length = np.sqrt(around.sq_length)
        # 0 but for rounding, unless the mean has seen numbers of rows that do not count.
        along = around.along.mean() / length
        return float((along + np.sqrt(max(0.0, along * along + left))) / length)
