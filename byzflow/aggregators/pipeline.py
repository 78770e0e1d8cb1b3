"""Pre-aggregators and an aggregator as one aggregator."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from byzflow.aggregators.base import StatefulAggregator
from byzflow.kernels.rows import Array
from byzflow.operators.base import Operator, frozen
from byzflow.operators.checks import acts, pre_aggregators
from byzflow.operators.compose import run_piece, segments, through
from byzflow.operators.missing import without

__all__ = ("Pipeline",)


@frozen
class Pipeline(StatefulAggregator):
    """Feed the vectors through pre-aggregators, in order, and aggregate what they leave.

    ``out = R(P_k(... P_1(x_1, ..., x_n)))``. Neighbouring linear rules are fused: the Gram matrix of W X is
    W G Wᵀ, so a chain of them, with a linear or a column-wise rule at its end, costs two passes over the
    data, whatever its length.

    Parameters
    ----------
    pre_aggregators : sequence of PreAggregator
        Applied in order; may be empty.
    aggregator : Aggregator
        Applied last. If it has state, so has the pipeline. The parts of a pipeline become parts of this one.

    Raises
    ------
    TypeError
        If a part is no operator of its kind.
    ToleranceError
        If a part cannot work on what it gets.

    Notes
    -----
    O(n**2 d) for a chain of linear rules, with memory O(n**2) beyond input and output; else the sum of what
    its fused pieces cost. The state is the aggregator's.

    References
    ----------
    .. [1] Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan, "Fixing by mixing: A recipe for optimal
       Byzantine ML under heterogeneity", AISTATS 2023 (pre-aggregation before a robust rule).

    Examples
    --------
    >>> import numpy as np
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> Pipeline((), CoordinateWiseMedian()).aggregate([np.ones(2), np.zeros(2), np.full(2, 9.0)])
    array([1., 1.])
    """

    pre_aggregators: Sequence[Any]
    aggregator: Any
    name: ClassVar[str] = "pipeline"

    def __post_init__(self) -> None:
        before, last = pre_aggregators(self.pre_aggregators), self.aggregator
        acts("aggregator", last, "aggregate", "Pass a rule.")
        if type(last) is Pipeline:
            before, last = (*before, *last.pre_aggregators), last.aggregator
        object.__setattr__(self, "pre_aggregators", before)
        object.__setattr__(self, "aggregator", last)

    @property
    def operators(self) -> tuple[Operator, ...]:
        """All parts in order."""
        return (*self.pre_aggregators, self.aggregator)

    @property
    def by_node(self) -> bool:  # type: ignore[override]  # as its aggregator
        """Whether the state has something for each node."""
        return getattr(self.aggregator, "by_node", False)

    def without(self, nodes: Collection[int]) -> Self:
        """Return the pipeline for the rows that are left when those of some nodes are missing."""
        *before, last = without(self.operators, nodes)
        return type(self)(before, last)

    def regrouped(self, state: Mapping[str, Array], places: Sequence[int | None]) -> Mapping[str, Array]:
        """Return the aggregator's state for other nodes; see `StatefulAggregator.regrouped`."""
        regrouped: Mapping[str, Array] = self.aggregator.regrouped(state, places)
        return regrouped

    def step(
        self, gradients: Sequence[Array], state: Mapping[str, Array] | None
    ) -> tuple[Array, Mapping[str, Array]]:
        """Return the aggregate and the aggregator's next state (empty if it has none)."""
        return Pipeline.weighted_step(self, gradients, state)[:2]

    def weighted_step(
        self, gradients: Sequence[Array], state: Mapping[str, Array] | None
    ) -> tuple[Array, Mapping[str, Array], Sequence[float] | None]:
        """Do as `step`, and return the weights of the vectors, if every part is linear."""
        *before, final = segments(self.operators)
        vectors: Any = gradients
        mixings: list[np.ndarray | None] = []
        for piece in before:
            vectors, mixing = run_piece(piece, vectors)
            mixings.append(mixing)
        carry: Mapping[str, Array] = {}
        weights: Any
        if isinstance(self.aggregator, StatefulAggregator):
            aggregate, carry, weights = self.aggregator.weighted_step(vectors, state)
        else:
            answer, mixing = run_piece(final, vectors)
            aggregate, weights = answer[0], None if mixing is None else mixing[0]
        for mixing in mixings[::-1]:
            weights = through(mixing, weights)
        return aggregate, carry, None if weights is None else [float(weight) for weight in weights]
