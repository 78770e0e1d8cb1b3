"""Chains of operators where the rows of some nodes are missing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

__all__ = ("without",)


def without(operators: Sequence[Any], nodes: Collection[int]) -> list[Any]:
    """Return the operators of a chain for the rows that are left; see `Operator.without`.

    What comes after one whose rows are no nodes' any more, as buckets are, stays as it is.

    Raises
    ------
    ToleranceError
        If one of them cannot do without a node's row.

    Examples
    --------
    >>> from byzflow.aggregators.geometric_wise import MoNNA
    >>> from byzflow.pre_aggregators import Bucketing
    >>> rule = MoNNA(f=1, reference_index=2)
    >>> without([rule], {0})[0].reference_index, without([Bucketing(2), rule], {0})[1].reference_index
    (1, 2)
    """
    left, by_node = [], True
    for operator in operators:
        change = getattr(operator, "without", None) if by_node else None
        left.append(operator if change is None else change(nodes))
        by_node = by_node and getattr(operator, "keeps_nodes", True)
    return left
