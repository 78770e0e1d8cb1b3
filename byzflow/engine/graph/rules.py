"""Which operators the compiler may take apart, and whether one rule's answer is another's rows. Pure."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np

from byzflow.engine.graph.graph import ComputationGraph, GraphNode
from byzflow.operators.rows import RowOperator

__all__ = ("feeds", "gives_rows", "is_rule", "takes_rows")

_DRIVERS = ("run", "compute", "run_rows", "create_subtasks", "reduce_subtasks", "run_barriered_subtasks")

_PROBE: list[Any] = [np.zeros(1)]


def is_rule(op: Any) -> TypeGuard[RowOperator]:
    """Whether `op` is a rule over rows that runs as its phases say: no driver is overridden, no row is extra.

    Examples
    --------
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> is_rule(CoordinateWiseMedian()), is_rule(print)
    (True, False)
    """
    if not isinstance(op, RowOperator) or op.extra:
        return False
    return all(getattr(type(op), name) is getattr(RowOperator, name) for name in _DRIVERS)


def gives_rows(op: RowOperator) -> bool:
    """Whether the answer is a list of vectors; else it is one vector."""
    return op.finish(_PROBE) is _PROBE


def takes_rows(op: RowOperator, argument: str) -> bool | None:
    """Whether the argument is a sequence of vectors (True), one vector (False), or something else (None).

    An operator that looks at some of the vectors only is of the last kind: the others need not travel.
    """
    try:
        found = op.vectors({argument: _PROBE})
    except KeyError:
        return None
    if found is _PROBE:
        return True
    return False if len(found) == 1 and found[0] is _PROBE else None


def feeds(graph: ComputationGraph, node: GraphNode) -> GraphNode | None:
    """Return the node whose answer is the rows of `node`, if both are rules and nothing else is read."""
    if not is_rule(node.op) or len(node.inputs) != 1:
        return None
    ((argument, source),) = node.inputs.items()
    if not isinstance(source, str):
        return None
    parent = graph[source]
    if not is_rule(parent.op) or gives_rows(parent.op) != takes_rows(node.op, argument):
        return None
    return parent
