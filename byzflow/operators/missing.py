"""Chains of operators where the rows of some nodes are missing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

__all__ = ("keeps_nodes", "without")


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
    left: list[Any] = []
    for place, operator in enumerate(operators):
        change = getattr(operator, "without", None) if keeps_nodes(operators[:place]) else None
        left.append(operator if change is None else change(nodes))
    return left


def keeps_nodes(operators: Sequence[Any]) -> bool:
    """Whether what a chain of pre-aggregators returns has one row for each node.

    Examples
    --------
    >>> from byzflow.pre_aggregators import Bucketing, Clipping
    >>> keeps_nodes([Clipping(1.0)]), keeps_nodes([Clipping(1.0), Bucketing(2)])
    (True, False)
    """
    return all(getattr(operator, "keeps_nodes", True) for operator in operators)
