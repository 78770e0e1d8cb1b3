"""How a peer mixes: its rules fitted to the neighbours that sent, and what a rule remembers carried on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from byzflow.aggregators.pipeline import Pipeline
from byzflow.engine.fitting import candidates, is_by_node, sees_nodes, tolerance
from byzflow.exceptions import ToleranceError
from byzflow.operators.checks import carried

__all__ = ("Neighborhood", "mixed", "weighted")


@dataclass(frozen=True)
class Neighborhood:
    """Who a peer hears in a round, by node index.

    Attributes
    ----------
    node : int
        The peer itself, whose row is the first.
    neighbors : tuple of int
        Its in-neighbours, in the order of their rows.
    missing : tuple of int
        Those of them that have no row.

    Examples
    --------
    >>> Neighborhood(3, (1, 2), (2,)).came
    (3, 1)
    """

    node: int
    neighbors: tuple[int, ...]
    missing: tuple[int, ...] = ()

    @property
    def came(self) -> tuple[int, ...]:
        """Whose rows there are, in their order."""
        missing = frozenset(self.missing)
        return (self.node, *(j for j in self.neighbors if j not in missing))


def mixed(
    rows: Sequence[Any],
    pre: Any,
    rule: Any,
    *,
    neighborhood: Neighborhood | None = None,
    state: Mapping[str, Any] | None = None,
    finish: Callable[[Any], Any] = lambda part: part,
) -> tuple[Any, Mapping[str, Any] | None]:
    """Return what a peer's rules make of the rows, and what is to be remembered for the next round.

    The rules run as given if they can; if too few rows came for that, with ``f`` lowered by the number of
    neighbours that are missing, if that is no more than ``f``: those were the liars.

    Parameters
    ----------
    rows : sequence of Array
        The own vector and those of the neighbours that sent one, in their order.
    pre, rule : object
        Pre-aggregator, or None, and aggregator.
    neighborhood : Neighborhood, optional
        Whose rows these are; None if that is not known. A rule that remembers something for each node then
        starts anew.
    state : mapping, optional
        What was returned for the round before.
    finish : callable, optional
        Makes the last change to a rule before it runs, as to give it a seed.

    Raises
    ------
    ToleranceError
        If the rules cannot run on these rows.

    Examples
    --------
    >>> import numpy as np
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
    >>> rows, rule = [np.zeros(1), np.ones(1)], CoordinateWiseTrimmedMean(f=1)
    >>> mixed(rows, None, rule, neighborhood=Neighborhood(0, (1, 2), (2,)))
    (array([0.5]), None)
    """
    refusal: ToleranceError | None = None
    for before, after, past, nodes in _fits(pre, rule, neighborhood, state):
        ready = finish(_with_weights_of(after, rule, len(rows)))
        try:
            vectors = rows if before is None else finish(before).pre_aggregate(rows)
            return _run(ready, vectors, past, nodes)
        except ToleranceError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def weighted(rule: Any, weights: Sequence[float]) -> Any:
    """Return a rule with these mixing weights, if it takes any; of a `Pipeline`, its aggregator takes them.

    Examples
    --------
    >>> from byzflow.engine.peer_to_peer.gossip import PlainGossip
    >>> weighted(Pipeline((), PlainGossip()), [0.75, 0.25]).aggregator.mixing
    (0.75, 0.25)
    """
    if isinstance(rule, Pipeline):
        return dataclasses.replace(rule, aggregator=weighted(rule.aggregator, weights))
    fields = dataclasses.fields(rule) if dataclasses.is_dataclass(rule) else ()
    if not any(item.name == "mixing" for item in fields):
        return rule
    return dataclasses.replace(rule, mixing=tuple(weights))


def _run(rule: Any, vectors: Any, state: Any, nodes: Sequence[int] | None) -> tuple[Any, Any]:
    """Return the mixed vector and what is to be remembered, of these nodes if it is by node."""
    if not callable(getattr(rule, "step", None)) or (nodes is None and is_by_node(rule)):
        return rule.aggregate(vectors), state
    value, after = rule.step(vectors, state)
    return value, after if nodes is None else {"nodes": list(nodes), "rule": after}


def _fits(pre: Any, rule: Any, who: Neighborhood | None, state: Any) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield how the rules may run, first fit first: both, the state to go on from, and whose that is."""
    by_node = is_by_node(rule) and sees_nodes(pre, rule)
    if who is None or not (who.missing or by_node):
        yield pre, rule, state, None
        return
    expected, nodes = (who.node, *who.neighbors), None
    if by_node:
        before: Sequence[int] = ()
        if state is not None:
            before, state = carried(type(rule).__name__, state, "nodes", "rule")
        expected = nodes = (who.node, *sorted({*before, *who.neighbors} - {who.node}))
        known = {node: place for place, node in enumerate(before)}
        state = None if state is None else rule.regrouped(state, [known.get(j) for j in nodes])
    came, gone = frozenset(who.came), len(who.missing)
    out = [place for place, j in enumerate(expected) if j not in came]
    most = tolerance([part for part in (pre, rule) if part is not None], len(came) + gone)
    for before_it, fitted in candidates(pre, rule, out, gone if gone <= most else 0):
        yield before_it, fitted, state, nodes


def _with_weights_of(rule: Any, given: Any, n: int) -> Any:
    """Keep mixing weights that are given for these very rows, as a node may be told them in each round."""
    last = given.aggregator if isinstance(given, Pipeline) else given
    weights = getattr(last, "mixing", None)
    if rule is given or weights is None or len(weights) != n:
        return rule
    return weighted(rule, weights)
