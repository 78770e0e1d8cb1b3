"""How the rules of a server, or of a peer, are fitted to a round that leaves nodes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from numbers import Integral
from typing import Any

from byzflow.aggregators.pipeline import Pipeline
from byzflow.operators.missing import keeps_nodes, without

__all__ = ("candidates", "is_by_node", "lowered", "sees_nodes", "tolerance")


def tolerance(rules: Sequence[Any], n: int) -> int:
    """Return how many of n nodes the rules let go: the smallest ``f`` they carry, else a minority.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> tolerance([SimpleNamespace(f=2)], 10), tolerance([object()], 10)
    (2, 4)
    """
    parts: list[Any] = []
    for rule in rules:
        parts += rule.operators if isinstance(rule, Pipeline) else (rule,)
    known = [int(part.f) for part in parts if isinstance(getattr(part, "f", None), Integral)]
    return min(known) if known else (n - 1) // 2


def lowered(rule: Any, by: int) -> Any:
    """Return the rule with `by` Byzantine rows fewer, as those have given themselves away."""
    if isinstance(rule, Pipeline):
        before = tuple(lowered(part, by) for part in rule.pre_aggregators)
        return Pipeline(before, lowered(rule.aggregator, by))
    f = getattr(rule, "f", None)
    if not isinstance(f, Integral) or not dataclasses.is_dataclass(rule) or isinstance(rule, type):
        return rule
    if "f" not in {item.name for item in dataclasses.fields(rule) if item.init}:
        return rule
    return dataclasses.replace(rule, f=max(0, int(f) - by))


def candidates(pre: Any, rule: Any, out: Collection[int], by: int | None = None) -> Iterator[tuple[Any, Any]]:
    """Yield pre-aggregator and aggregator as they may run without some nodes, first fit first.

    Parameters
    ----------
    pre, rule : object
        Pre-aggregator, or None, and aggregator.
    out : collection of int
        The nodes whose rows are missing.
    by : int, optional
        How many of them have given themselves away; by default all.

    Raises
    ------
    ToleranceError
        If one of them cannot do without a node's row.

    Examples
    --------
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
    >>> [rule.f for _, rule in candidates(None, CoordinateWiseTrimmedMean(f=2), {4})]
    [2, 1]
    """
    if not out:
        yield pre, rule
        return
    parts = without([rule] if pre is None else [pre, rule], out)
    pre, rule = None if pre is None else parts[0], parts[-1]
    yield pre, rule
    gone = len(out) if by is None else by
    if gone:
        yield lowered(pre, gone), lowered(rule, gone)


def is_by_node(rule: Any) -> bool:
    """Whether a rule remembers something for each node.

    Examples
    --------
    >>> is_by_node(object())
    False
    """
    return bool(getattr(rule, "by_node", False))


def sees_nodes(pre: Any, rule: Any) -> bool:
    """Whether the rows that reach the rule itself are those of nodes still, unlike buckets of them.

    Examples
    --------
    >>> from byzflow.pre_aggregators import Bucketing
    >>> sees_nodes(None, object()), sees_nodes(Bucketing(2), object())
    (True, False)
    """
    own = rule.pre_aggregators if isinstance(rule, Pipeline) else ()
    return keeps_nodes([*(() if pre is None else (pre,)), *own])
