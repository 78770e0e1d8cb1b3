"""Attacks that try themselves out against the rule in use, and send what harms most."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import field
from functools import partial
from typing import Any, ClassVar

import numpy as np

from byzflow.attacks.base import Attack
from byzflow.attacks.line_search import line_search
from byzflow.attacks.whole import whole
from byzflow.kernels.intake import listed
from byzflow.kernels.rows import Array
from byzflow.kernels.small import product
from byzflow.operators.base import Operator, frozen
from byzflow.operators.checks import acts, finite, nonnegative, positive, positive_real, pre_aggregators
from byzflow.operators.compose import Chain, compose, segments
from byzflow.operators.linear import LinearOperator
from byzflow.operators.passes import combine, survey

__all__ = ("AdaptiveAttack", "linear_rule")


@frozen
class AdaptiveAttack(Attack):
    """Send the vector of a family ``a(t), t >= 0`` that moves the aggregate farthest from the honest mean.

    A line search maximises ``|R(honest, a(t), ..., a(t)) - mean|`` over t, with R the live pipeline and f
    copies of ``a(t)``; where that has several peaks, as for rules that choose rows, it may end on a lower
    one. A subclass gives the family.

    Parameters
    ----------
    f : int
        Byzantine nodes that send the vector; at least 0.
    aggregator : Aggregator
        The rule in use.
    pre_aggregators : sequence of PreAggregator
        What comes before it.
    evaluations : int, default 20
        How often the rule is tried; at least 1.
    reach : float, default 10.0
        Greatest strength that the search tries before it knows more; greater than 0, finite.

    Raises
    ------
    TypeError
        If a part of the pipeline is no operator of its kind.
    ValueError
        If a number is out of its range.
    """

    f: int
    aggregator: Any
    pre_aggregators: Sequence[Any] = ()
    evaluations: int = field(default=20, kw_only=True)
    reach: float = field(default=10.0, kw_only=True)
    uses_honest_grads: ClassVar[bool] = True

    def __post_init__(self) -> None:
        nonnegative("f", self.f)
        positive("evaluations", self.evaluations)
        positive_real("reach", self.reach)
        finite("reach", self.reach)
        acts("aggregator", self.aggregator, "aggregate", "Pass the rule in use.")
        object.__setattr__(self, "pre_aggregators", pre_aggregators(self.pre_aggregators))

    @abstractmethod
    def vector(self, honest: Sequence[Array], t: float) -> Array:
        """Return ``a(t)``."""

    @abstractmethod
    def points(self, honest: Sequence[Array]) -> list[Array]:
        """Return the honest mean, and what else ``a(t)`` is a combination of."""

    @abstractmethod
    def mixture(self, t: float) -> list[float]:
        """Return the weights of the points in ``a(t)``."""

    def apply(
        self,
        *,
        model: Any = None,
        x: Array | None = None,
        y: Array | None = None,
        honest_grads: Sequence[Array] | None = None,
        base_grad: Array | None = None,
    ) -> Array:
        """Return the vector that harms most; see `Attack.apply`."""
        if honest_grads is None:
            raise ValueError(f"{type(self).__name__} needs honest_grads; got None. Pass honest_grads=...")
        return whole(self.search, honest_grads)

    def search(self, honest: Sequence[Array]) -> Array:
        """Return the vector that harms most."""
        vectors = listed(honest)
        if not vectors:
            raise ValueError(
                f"{type(self).__name__} needs honest_grads with at least one vector; got none. Pass what the "
                f"honest nodes send."
            )
        # A Pipeline names its parts; any other aggregator is one.
        last = getattr(self.aggregator, "operators", (self.aggregator,))
        rule = linear_rule((*self.pre_aggregators, *last))
        objective = self._live(vectors) if rule is None else self._on_gram(vectors, rule)
        t = line_search(objective, step=float(self.reach), evaluations=self.evaluations)
        return self.vector(vectors, t)

    def _live(self, honest: list[Array]) -> Callable[[float], float]:
        points = self.points(honest)

        def objective(t: float) -> float:
            vectors = [*honest, *combine(points, np.array(self.mixture(t))) * self.f]
            for part in self.pre_aggregators:
                vectors = part.pre_aggregate(vectors)
            known = survey([self.aggregator.aggregate(vectors), points[0]], anchors=())
            return float(known.sq_distances[0, 1]) if known.finite[0] else math.nan

        return objective

    def _on_gram(self, honest: list[Array], rule: LinearOperator | Chain) -> Callable[[float], float]:
        """Look at the rows once, and try the rule on their Gram matrix alone."""
        h, n = len(honest), len(honest) + self.f
        rule.check(n)
        known = survey(honest, self.points(honest))
        mean = np.eye(1, known.n, h)
        # Alone, a rule may measure something of its own instead; a Gram matrix is what it knows in any chain.
        solve = rule.solve if isinstance(rule, Chain) else partial(LinearOperator.solve, rule)

        def objective(t: float) -> float:
            everybody = np.zeros((n, known.n))
            everybody[:h, :h] = np.eye(h)
            everybody[h:, h:] = self.mixture(t)
            seen = known.mix(everybody)
            stats: dict[str, Any] = {"norms": seen.sq_norms}
            if "gram" in rule.uses:
                stats["gram"] = seen.gram if rule.anchors else seen.gram[:n, :n]
            aggregate = product(solve(stats, n).whole, everybody)
            return float(known.mix(np.vstack((aggregate, mean))).sq_distances[0, 1])

        return objective


def linear_rule(operators: Sequence[Operator]) -> LinearOperator | Chain | None:
    """Return a pipeline as one rule if it can be tried on a Gram matrix alone; otherwise None.

    Examples
    --------
    >>> from byzflow.attacks import EmpireAttack
    >>> linear_rule([EmpireAttack()]) == EmpireAttack()
    True
    """
    pieces = segments(operators)
    if len(pieces) != 1 or not (isinstance(last := pieces[0][-1], LinearOperator) and last.by_phases):
        return None
    rule: Any = compose(operators)
    return None if rule.extra or "median" in rule.anchors else rule
