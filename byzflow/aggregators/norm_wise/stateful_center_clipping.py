"""Centered clipping about the last round's result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import ClassVar

import array_api_compat
import numpy as np

from byzflow.aggregators.base import StatefulAggregator
from byzflow.aggregators.norm_wise.center_clipping import CenteredClipping, clip_towards
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.checks import carried, choice, positive, positive_real, real
from byzflow.operators.geometry import Geometry
from byzflow.operators.lazy import as_lazy, lazy_below, lazy_rows
from byzflow.operators.linear import LinearOperator

__all__ = ("StatefulCenteredClipping",)


@frozen
class _AboutCentre(LinearOperator):
    """Centered clipping of n rows about one more row."""

    c_tau: float
    M: int
    eps: float
    extra: ClassVar[int] = 1
    name: ClassVar[str] = "centered-clipping"

    def weights(self, geometry: Geometry) -> np.ndarray:
        centre = np.zeros(geometry.n)
        centre[-1] = 1.0
        return clip_towards(geometry, centre, geometry.n - 1, c_tau=self.c_tau, M=self.M, eps=self.eps)


@frozen
class StatefulCenteredClipping(StatefulAggregator):
    """Centered clipping that starts where the last round ended.

    ``v_t`` is `CenteredClipping` from the start ``v_{t-1}``. That is the rule's own form: a liar shifts the
    centre by at most ``M c_tau / n`` a round, and consistent lies are what is left to him. With worker
    momentum it converges where rules without memory cannot.

    Parameters
    ----------
    c_tau : float
        Clipping radius, ``>= 0`` [units of the rows].
    M : int, default 1
        Rounds of clipping for each step.
    eps : float, default 1e-12
        Distances below this count as this.
    init : {"zero", "median", "mean"}, default "zero"
        Where the first step starts.

    Raises
    ------
    ToleranceError
        If no row of a first round is finite.
    ValueError
        If an option is out of its range, or the state is that of another rule.

    Notes
    -----
    State: ``{"centre": (...)}``, the last result. Gram-space over the n rows and the centre: one pass for the
    inner products, O(n**2 d), and one for the answer, O(n d). Memory O(n**2) beyond the input and O(d) for
    the state.

    References
    ----------
    .. [1] Karimireddy, He, Jaggi, "Learning from history for Byzantine robust optimization", ICML 2021.

    Examples
    --------
    >>> rule = StatefulCenteredClipping(c_tau=1.0)
    >>> rows = [np.full(1, 4.0), np.full(1, 4.0)]
    >>> first, state = rule.step(rows, None)
    >>> second, state = rule.step(rows, state)
    >>> first, second
    (array([1.]), array([2.]))
    """

    c_tau: float = field(kw_only=True)
    M: int = field(default=1, kw_only=True)
    eps: float = field(default=1e-12, kw_only=True)
    init: str = field(default="zero", kw_only=True)
    name: ClassVar[str] = "stateful-centered-clipping"

    def __post_init__(self) -> None:
        real("c_tau", self.c_tau, least=0.0)
        positive("M", self.M)
        positive_real("eps", self.eps)
        choice("init", self.init, ("zero", "median", "mean"))

    def step(
        self, gradients: Sequence[Array], state: Mapping[str, Array] | None
    ) -> tuple[Array, Mapping[str, Array]]:
        """Return the new centre, twice: as the aggregate and as the state."""
        return StatefulCenteredClipping.weighted_step(self, gradients, state)[:2]

    def weighted_step(
        self, gradients: Sequence[Array], state: Mapping[str, Array] | None
    ) -> tuple[Array, Mapping[str, Array], Sequence[float] | None]:
        """Do as `step`, and return the weights of the vectors; what they lack to 1 is the last centre's."""
        rule: LinearOperator = CenteredClipping(c_tau=self.c_tau, M=self.M, eps=self.eps, init=self.init)
        before: list[Array] = []
        if state is not None:
            rule = _AboutCentre(self.c_tau, self.M, self.eps)
            before = carried("StatefulCenteredClipping", state, "centre")
        weights = None
        if (lazy := as_lazy(gradients)) is not None:
            rows = lazy_below(lazy, before[0][None]) if before else lazy
            centre = lazy_rows(rule, rows)[0]
        else:
            (centre,), plan = rule.run_planned(gradients, extra=before)
            weights = plan.whole[0, : len(plan.finite) - len(before)].tolist()
        kept = array_api_compat.array_namespace(centre).asarray(centre, copy=True)
        return centre, {"centre": kept}, weights
