"""Min-max: no farther from any honest row than two honest rows are from each other."""

from __future__ import annotations

import numpy as np

from byzflow.attacks.perturbation import Around, PerturbationAttack
from byzflow.operators.base import frozen

__all__ = ("MinMaxAttack",)


@frozen
class MinMaxAttack(PerturbationAttack):
    """Send ``mean - gamma * p`` with the largest gamma that keeps the vector among the honest rows.

    ``max_i |a - x_i| <= max_ij |x_i - x_j|``. In closed form: with ``u_i = mean - x_i`` and R the greatest
    squared distance, gamma is the least, over i, of the larger root of
    ``gamma**2 |p|**2 - 2 gamma <u_i, p> + |u_i|**2 = R``.

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
    Two passes, O(n**2 d) for the distances. Honest rows that are not finite do not bound gamma; in the mean
    and the deviation, values that are not finite are left out.

    References
    ----------
    .. [1] Shejwalkar, Houmansadr, "Manipulating the Byzantine: Optimizing model poisoning attacks and
       defenses for federated learning", NDSS 2021.

    Examples
    --------
    >>> honest = [np.array([1.0]), np.array([3.0])]
    >>> MinMaxAttack("unit").apply(honest_grads=honest)
    array([1.])
    """

    def gamma(self, around: Around) -> float:
        """Return the least of the rows' bounds."""
        slack = around.from_mean - around.sq_distances.max()
        # <= 0 but for rounding: the mean is no farther from a row than another row is.
        length = np.sqrt(around.sq_length)
        # Squared, it is no larger than `from_mean`; fourth powers would leave float64.
        along = around.along / length
        root = np.sqrt(np.maximum(along * along - slack, 0.0))
        return float(np.min(along + root) / length)
