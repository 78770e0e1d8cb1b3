"""ROP: relocated orthogonal perturbation, which a clipping centre cannot see and carries along."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

import numpy as np

from byzflow.attacks.gaussian import GaussianAttack
from byzflow.attacks.whole import LearningAttack
from byzflow.exceptions import ToleranceError
from byzflow.kernels.rows import Array
from byzflow.kernels.small import product
from byzflow.operators.base import frozen
from byzflow.operators.checks import finite, nonnegative, positive, real
from byzflow.operators.passes import combine, survey

__all__ = ("ROPAttack",)


@frozen
class ROPAttack(LearningAttack):
    """Send a point near the server's momentum, moved by a fixed length at a fixed angle.

    ``a = place + z (cos(angle) r / |r| + sin(angle) p)`` with p a random unit vector at right angles to r;
    ``place = relocation * m + (1 - relocation) * mean`` and ``r = reference * m + (1 - reference) * mean``
    lie between the server's momentum m and the honest mean. Centered clipping measures from m, so a small z
    passes it whole; and because p comes from the same noise in every round, what passes adds up.

    Parameters
    ----------
    z : float, default 1.0
        Length of the perturbation, at least 0 [units of the rows]; compare the radius of the clipping.
    relocation : float, default 0.9
        How far to go from the honest mean to the momentum, the paper's pi; between 0 and 1.
    reference : float, optional
        The same for r, from which the angle is measured, the paper's lambda; by default `relocation`.
    angle : float, default 90.0
        Between r and the perturbation [degrees].
    seed : int, default 0
        Seed of the noise.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ToleranceError
        If no honest vector is finite.
    ValueError
        If an option is out of its range.

    Notes
    -----
    Inner products, O(h**2 d), and one combination of the rows, O(h d). Attackers do not see the server's
    momentum here: the honest mean of the round before stands for it (in a first round, that of this one),
    which is what it comes to where honest nodes send momenta. State: ``{"momentum": (d,)}``. The form is
    that of the authors' program (FL-Byzantine-Library), where pi = 1 and lambda = 0.9, p is made from the
    vector of ones instead of noise, and z, if none is given, is the z of A little is enough; the defaults
    here are choices of this package.

    References
    ----------
    .. [1] Özfatura, Özfatura, Küpçü, Gündüz, "Byzantines can also learn from history: Fall of centered
       clipping in federated learning", IEEE TIFS 2024.

    Examples
    --------
    >>> honest = [np.array([3.0, 0.0]), np.array([5.0, 0.0])]
    >>> np.abs(ROPAttack(z=2.0).apply(honest_grads=honest)).round(9)
    array([4., 2.])
    """

    z: float = 1.0
    relocation: float = field(default=0.9, kw_only=True)
    reference: float | None = field(default=None, kw_only=True)
    angle: float = field(default=90.0, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    chunk_size: int = field(default=8192, kw_only=True)
    remembers: ClassVar[tuple[str, ...]] = ("momentum",)

    def __post_init__(self) -> None:
        finite("z", self.z)
        real("z", self.z, least=0.0)
        shares = {"relocation": self.relocation}
        if self.reference is not None:
            shares["reference"] = self.reference
        for name, share in shares.items():
            real(name, share, least=0.0)
            if share > 1.0:
                raise ValueError(f"{name} must be at most 1; got {share:g}. Lower it.")
        finite("angle", self.angle)
        nonnegative("seed", self.seed)
        positive("chunk_size", self.chunk_size)

    def learn(
        self, honest: list[Array], state: Mapping[str, Array] | None
    ) -> tuple[Array, Mapping[str, Array]]:
        """Return the malicious vector, and the honest mean for the next round."""
        h = len(honest)
        noise = GaussianAttack(seed=self.seed).apply(honest_grads=honest)
        known = [noise] if state is None else [noise, state["momentum"]]
        geometry = survey(honest, known)
        good = geometry.finite[:h]
        if not good.any():
            raise ToleranceError(f"ROPAttack needs a finite honest vector; got none of {h}. Check them.")
        mean = np.zeros(geometry.n)
        mean[:h] = good / np.count_nonzero(good)
        momentum = mean if state is None else np.eye(1, geometry.n, h + 1)[0]
        weights = self._weights(geometry.products, mean, momentum, np.eye(1, geometry.n, h)[0])
        sent, mean_vector = combine(honest, np.stack((weights, mean)), known)
        return sent, {"momentum": mean_vector}

    def _weights(
        self, products: np.ndarray, mean: np.ndarray, momentum: np.ndarray, noise: np.ndarray
    ) -> np.ndarray:
        """Return the weights of all rows in the malicious vector."""
        place = self.relocation * momentum + (1.0 - self.relocation) * mean
        share = self.relocation if self.reference is None else self.reference
        r = share * momentum + (1.0 - share) * mean
        length = math.sqrt(max(0.0, float(r @ product(products, r))))
        unit = r / length if length > 0.0 else 0.0 * r
        p = noise - float(noise @ product(products, unit)) * unit
        across = math.sqrt(max(0.0, float(p @ product(products, p))))
        p = p / across if across > 0.0 else 0.0 * p
        turn = math.radians(self.angle)
        weights: np.ndarray = place + self.z * (math.cos(turn) * unit + math.sin(turn) * p)
        return weights
