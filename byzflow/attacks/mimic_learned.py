"""Mimic, with the node to copy learned: the one that stands out most along the direction of most variance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

import numpy as np

from byzflow.attacks.gaussian import GaussianAttack
from byzflow.attacks.whole import LearningAttack
from byzflow.exceptions import ToleranceError
from byzflow.kernels.host import to_host
from byzflow.kernels.rows import Array
from byzflow.kernels.small import product
from byzflow.operators.base import frozen
from byzflow.operators.checks import nonnegative, positive
from byzflow.operators.passes import combine, survey

__all__ = ("MimicLearnedAttack",)


@frozen
class MimicLearnedAttack(LearningAttack):
    """Copy the honest vector that stands out most along the direction in which they differ most.

    In round t = 0, 1, ... of the warm-up the attack learns a running mean and a direction,

    ``m <- (t m + mean_i x_i) / (t + 1)``,
    ``z <- t z + sum_i (x_i - m) <x_i - m, z>``, scaled to length 1,

    which is a power iteration on the honest covariance, seen one round at a time. It sends the honest vector
    with the greatest ``<x_i, z>``; equal ones: the lower index. After the warm-up m and z stay. Copying the
    same kind of node again and again gives it a weight it does not have: a bias where data differ.

    Parameters
    ----------
    warmup : int, default 100
        Rounds that are learned from; at least 1.
    seed : int, default 0
        Seed of the first direction.
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ToleranceError
        If no honest vector is finite.

    Notes
    -----
    Inner products, O(h**2 d), and one combination of the rows, O(h d), in each round of the warm-up. `apply`
    is a first round. State: ``{"mean": (d,), "direction": (d,), "round": (1,)}``, vectors of the library and
    dtype of the honest ones.

    References
    ----------
    .. [1] Karimireddy, He, Jaggi, "Byzantine-robust learning on heterogeneous datasets via bucketing",
       ICLR 2022 (appendix on the mimic attack).

    Examples
    --------
    >>> honest = [np.array([0.0, 1.0]), np.array([0.1, 1.0]), np.array([9.0, 1.0])]
    >>> attack = MimicLearnedAttack()
    >>> sent, state = attack.step(None, honest_grads=honest)
    >>> np.abs(state["direction"]).round(3)
    array([1., 0.])
    """

    warmup: int = 100
    seed: int = field(default=0, kw_only=True)
    chunk_size: int = field(default=8192, kw_only=True)
    remembers: ClassVar[tuple[str, ...]] = ("mean", "direction")
    counts: ClassVar[tuple[str, ...]] = ("round",)

    def __post_init__(self) -> None:
        positive("warmup", self.warmup)
        nonnegative("seed", self.seed)
        positive("chunk_size", self.chunk_size)

    def learn(
        self, honest: list[Array], state: Mapping[str, Array] | None
    ) -> tuple[Array, Mapping[str, Array]]:
        """Return the copied vector, and what has been learned."""
        if state is None:
            noise = GaussianAttack(seed=self.seed).apply(honest_grads=honest)
            state = {"mean": noise, "direction": noise, "round": np.zeros(1)}
        t = int(to_host(state["round"])[0])
        if t < self.warmup:
            state = _learned(honest, state, t)
        geometry = survey(honest, [state["direction"]])
        along = np.where(geometry.finite, geometry.products[-1], -np.inf)[: len(honest)]
        chosen = np.eye(1, len(honest), int(np.argmax(along)))
        return combine(honest, chosen)[0], state


def _learned(honest: list[Array], state: Mapping[str, Array], t: int) -> Mapping[str, Array]:
    """Return the mean and the direction after one more round."""
    h = len(honest)
    known = [state["direction"], state["mean"]]
    geometry = survey(honest, known)
    good = geometry.finite[:h]
    if not good.any():
        raise ToleranceError(f"MimicLearnedAttack needs a finite honest vector; got none of {h}. Check them.")
    mean = np.zeros(h + 2)
    mean[:h] = good / (np.count_nonzero(good) * (t + 1.0))
    mean[h + 1] = t / (t + 1.0)
    centred = np.eye(h, h + 2)[good] - mean
    products = geometry.products
    direction = product(product(centred, products[:, h]), centred)
    direction[h] += t
    # Rounded norms of a vanishing direction may come out negative.
    length = float(np.sqrt(max(0.0, float(direction @ product(products, direction)))))
    if length == 0.0:
        direction, length = np.eye(1, h + 2, h)[0], 1.0
    new_mean, new_direction = combine(honest, np.stack((mean, direction / length)), known)
    return {"mean": new_mean, "direction": new_direction, "round": np.full(1, t + 1.0)}
