"""The plain mean, weighted or not: the baseline that one liar defeats."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field, replace
from typing import ClassVar, Self

import numpy as np

from byzflow.aggregators.base import LinearAggregator
from byzflow.exceptions import ToleranceError
from byzflow.operators.base import frozen
from byzflow.operators.checks import node_weights, one_for_each, weights_without
from byzflow.operators.geometry import Geometry

__all__ = ("Average",)


@frozen
class Average(LinearAggregator):
    """Average the rows.

    ``out = sum_i w_i x_i / sum_i w_i`` over the finite rows; every ``w_i = 1`` by default. Not robust: a
    single large row moves it anywhere. Use it as the baseline, or where nobody lies.

    Parameters
    ----------
    node_weights : sequence of float, optional
        Non-negative weights of the n nodes in node order, such as their numbers of samples.

    Raises
    ------
    ToleranceError
        If no finite row has a positive weight.
    ValueError
        If the number of node weights is not n, or one of them is negative.

    Notes
    -----
    Linear: one pass, O(n d); a second one only if a row is not finite. Memory O(1) beyond the output.

    References
    ----------
    .. [1] McMahan, Moore, Ramage, Hampson, Agüera y Arcas, "Communication-efficient learning of deep
       networks from decentralized data", AISTATS 2017 (the weighted form).

    Examples
    --------
    >>> Average().aggregate([np.zeros(2), np.ones(2), np.full(2, 5.0)])
    array([2., 2.])
    >>> Average(node_weights=(3, 1)).aggregate([np.zeros(2), np.full(2, 8.0)])
    array([2., 2.])
    """

    node_weights: Sequence[float] | None = field(default=None, kw_only=True)
    uses: ClassVar[frozenset[str]] = frozenset()
    name: ClassVar[str] = "average"

    def __post_init__(self) -> None:
        object.__setattr__(self, "node_weights", node_weights(self.node_weights))

    def check(self, n: int) -> None:
        """Raise ValueError unless there are n node weights or none at all."""
        one_for_each("Average", self.node_weights, n)

    def without(self, nodes: Collection[int]) -> Self:
        """Return the rule with the weights of the nodes that are left."""
        return replace(self, node_weights=weights_without(self.node_weights, nodes))

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return the node weights of the finite rows, scaled to sum to 1."""
        given = np.ones(geometry.n) if self.node_weights is None else np.asarray(self.node_weights, float)
        weights = np.where(geometry.finite, given, 0.0)
        most = weights.max()
        if not most > 0.0:
            raise ToleranceError(
                f"Average needs a finite row with a positive weight; got none among n={geometry.n}. "
                f"Find out which nodes send NaN or inf."
            )
        weights /= most  # the sum of huge weights is infinite
        answer: np.ndarray = weights / weights.sum()
        return answer
