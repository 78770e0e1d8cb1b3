"""UBAR: near neighbours first, and of those the ones whose model does no worse on the node's own data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import field
from typing import Any, ClassVar, Self

import numpy as np

from byzflow.aggregators.base import LinearAggregator
from byzflow.engine.peer_to_peer.gossip.base import FloatArray, own_distances, require_own
from byzflow.exceptions import ToleranceError
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.checks import real, weights_without
from byzflow.operators.geometry import Geometry

__all__ = ("UBAR",)

Loss = Callable[[Array], float]


@frozen
class UBAR(LinearAggregator):
    """Keep the nearest neighbours, then those whose loss is at most the own; mix with the own row [1]_.

    ``x_i ← alpha x_i + (1 - alpha) mean(accepted)``. Of the neighbours, the nearest ``floor(rho neighbours)``
    (at least one) are looked at; if none of them has a loss at most the own, the one with the smallest loss
    is taken. The paper then steps along the gradient; here the half step comes first.

    Parameters
    ----------
    rho : float
        Bound from below on the share of honest neighbours, ``0 < rho <= 1``.
    alpha : float, default 0.5
        Weight of the own row, ``0 <= alpha <= 1``.
    loss : callable, optional
        The node's loss of a parameter vector, on a batch that stays the same during one call; asked for the
        own row and the near neighbours only.
    losses : sequence of float, optional
        One loss for each row, where they are known beforehand. One of the two must be given.

    References
    ----------
    .. [1] Guo et al., "Byzantine-resilient decentralized stochastic gradient descent", IEEE Transactions on
       Circuits and Systems for Video Technology 2021.

    Examples
    --------
    >>> import numpy as np
    >>> rule = UBAR(rho=0.7, loss=lambda x: float((x**2).sum()))
    >>> rule.aggregate([np.full(1, v) for v in (2.0, 1.0, 3.0, 99.0)])
    array([1.5])
    """

    rho: float
    alpha: float = 0.5
    loss: Loss | None = field(default=None, kw_only=True)
    losses: Sequence[float] | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "ubar"

    def __post_init__(self) -> None:
        for label, value in (("rho", self.rho), ("alpha", self.alpha)):
            real(label, value, least=0.0)
            if value > 1 or (label == "rho" and not value):
                raise ValueError(
                    f"{label} must be a share, at most 1 and rho above 0; got {value}. Lower it."
                )
        if (self.loss is None) == (self.losses is None):
            raise ValueError(
                "UBAR needs one of loss and losses; got "
                f"{'none' if self.loss is None else 'both'}. Give the node's loss function."
            )
        if self.loss is not None and not callable(self.loss):
            raise TypeError(
                f"loss must be a function of a parameter vector; got {type(self.loss).__name__}. "
                "Pass one, or losses."
            )
        if self.loss is not None:  # it sees whole rows, not their statistics
            for way in ("by_phases", "supports_subtasks", "supports_barriered_subtasks"):
                object.__setattr__(self, way, False)

    def without(self, nodes: Collection[int]) -> Self:
        """Return the rule with the losses of the rows that are left."""
        return dataclasses.replace(self, losses=weights_without(self.losses, nodes))

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless there is a loss for each row."""
        if self.losses is not None and len(self.losses) != n:
            raise ToleranceError(
                f"UBAR has losses for {len(self.losses)} rows; got n={n}. Give one loss for each row."
            )

    def run_rows(self, vectors: Any, extra: Sequence[Array] = ()) -> list[Array]:
        """Run eagerly; the loss function sees the rows it is asked about."""
        if self.loss is None:
            return super().run_rows(vectors, extra)
        asked = _Asked(tuple(vectors), self.loss)
        return dataclasses.replace(self, loss=None, losses=asked).run_rows(vectors, extra)

    def weights(self, geometry: Geometry) -> FloatArray:
        """Return the weights of the own row and the accepted neighbours."""
        if self.losses is None:
            raise ValueError(
                "UBAR with a loss function runs eagerly, where the rows are; got statistics only. "
                "Give losses, one for each row."
            )
        require_own(geometry, "UBAR")
        W = np.zeros(geometry.n)
        near = self._near(geometry)
        accepted = self._accepted(near, self.losses) if near else []
        W[accepted] = (1 - self.alpha) / max(1, len(accepted))
        W[0] = self.alpha if accepted else 1.0
        return W

    def _near(self, geometry: Geometry) -> list[int]:
        order = [int(j) for j in geometry.rank(own_distances(geometry)) if j != 0]
        m = max(1, math.floor(self.rho * len(order) + 1e-9))
        return [j for j in order[:m] if geometry.finite[j]]

    @staticmethod
    def _accepted(near: Sequence[int], losses: Sequence[float]) -> list[int]:
        own = losses[0]
        found = {j: loss if (loss := losses[j]) == loss else math.inf for j in near}
        good = [j for j in near if found[j] <= own]
        return good or [min(near, key=found.__getitem__)]


@dataclasses.dataclass(frozen=True)
class _Asked(Sequence[float]):
    """Losses of rows, computed when they are looked at."""

    vectors: tuple[Array, ...]
    loss: Loss

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: Any) -> Any:
        return float(self.loss(self.vectors[index]))
