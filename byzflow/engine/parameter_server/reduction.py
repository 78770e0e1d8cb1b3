"""From the rows of a round to one vector: which rule runs, where, with which state."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from byzflow.aggregators.base import StatefulAggregator
from byzflow.aggregators.pipeline import Pipeline
from byzflow.engine.fitting import is_by_node, sees_nodes
from byzflow.engine.graph.ops import make_single_operator_graph
from byzflow.engine.graph.rules import is_rule
from byzflow.engine.graph.scheduler import NodeScheduler
from byzflow.engine.node.streams import seeded
from byzflow.engine.rounds.forms import digest_of, norm_of
from byzflow.kernels.blocks import Tree
from byzflow.kernels.intake import as_rows
from byzflow.kernels.rows import Rows
from byzflow.kernels.threads import one_thread
from byzflow.operators.base import Operator
from byzflow.operators.checks import mapping
from byzflow.operators.compose import compose, drawn, is_columnwise, run_piece, segments, through
from byzflow.operators.linear import Weights
from byzflow.operators.rows import RowOperator
from byzflow.operators.shards import apply_blocks, assemble, measure_blocks, solve_tree

__all__ = ("Reduction", "row_weights", "rule_of")

SMALL = 1 << 19  # entries n d up to which the coordinator's own loop does the work at once


class Reduction:
    """The rules of a server, what they remember, and the pool they may use.

    Parameters
    ----------
    pool : ActorPool or None
        Where `aggregator` runs if given.
    metadata : mapping or None
        For the operators' context.
    seed : int or None
        Seeds rules that draw at random and have no seed of their own.
    cluster : ActorPool or None
        Where rules run on large vectors, if there is no `pool`.
    """

    def __init__(
        self,
        *,
        pool: Any = None,
        metadata: Mapping[str, Any] | None = None,
        seed: int | None = None,
        cluster: Any = None,
    ) -> None:
        self.pool, self._cluster = pool, cluster
        self.metadata = mapping("scheduler_metadata", metadata)
        self.seed = seed
        self.state: Mapping[str, Any] | None = None

    async def run(
        self, rows: Sequence[Any], pre: Any, rule: Any, round: int
    ) -> tuple[Any, list[float] | None, Mapping[str, Any] | None]:
        """Return the aggregate, the weight of each row if the rule is linear, and the rule's next state."""
        pre, rule = (seeded(part, self.seed, round, len(rows)) for part in (pre, rule))
        fused = self.fused(pre, rule, round, len(rows))
        if fused is None:
            value, weights, state = await self._apart(rows, pre, rule)
            return _one_vector(value, rule, tuple(rows[0].shape)), weights, state
        pool = self._pool_for(rows)
        if pool is not None:
            value, plan = await self._scheduled(fused, rows, pool)
            return value, row_weights(fused, plan), self.state
        if not _is_small(rows):
            answers, plan = await asyncio.to_thread(fused.run_planned, rows)
            return answers[0], row_weights(fused, plan), self.state
        answer, plan = _eager(fused, rows)
        return answer, row_weights(fused, plan), self.state

    def fused(self, pre: Any, rule: Any, round: int, n: int) -> RowOperator | None:
        """Return the rules of a round as one rule over n rows, or None if they are not that."""
        if callable(getattr(rule, "step", None)) and type(rule) is not Pipeline:
            return None
        return rule_of(*(seeded(part, self.seed, round, n) for part in (pre, rule)))

    async def _apart(self, rows: Sequence[Any], pre: Any, rule: Any) -> tuple[Any, list[float] | None, Any]:
        """Run rules that cannot be taken apart, one after the other.

        A rule that remembers nodes starts anew in each round if what reaches it is none of a node.
        """
        mixed, mixing = await _mixed(pre, list(rows))
        if callable(getattr(rule, "step", None)):
            remembers = sees_nodes(pre, rule) or not is_by_node(rule)
            value, state, weights = await _stepped(rule, mixed, self.state if remembers else None)
            return value, _of_rows(weights, pre, mixing), state if remembers else self.state
        pool = self._pool_for(mixed)
        if pool is not None and isinstance(rule, Operator):
            value, plan = await self._scheduled(rule, mixed, pool)
            return value, _of_rows(row_weights(rule, plan), pre, mixing), self.state
        if is_rule(rule):
            answers, plan = await asyncio.to_thread(rule.run_planned, mixed)
            return answers[0], _of_rows(row_weights(rule, plan), pre, mixing), self.state
        return await _call(rule.aggregate, mixed), None, self.state

    def _pool_for(self, rows: Sequence[Any]) -> Any:
        return self.pool or (None if _is_small(rows) else self._cluster)

    async def _scheduled(self, rule: Any, rows: Sequence[Any], pool: Any) -> tuple[Any, Any]:
        """Return what a rule gives on a pool, and the plan that made it if weights can be told from that.

        What it draws is drawn here, as subtasks may ask for the plan more than once.
        """
        plans: dict[str, Any] = {}
        by_phases = is_rule(rule)
        scheduler = self.scheduler(drawn(rule, len(rows)) if by_phases else rule, pool)
        scheduler.plans = plans if by_phases and not is_columnwise(rule) else None
        value = (await scheduler.run({rule.input_key: list(rows)}))["agg"]
        return value, plans.get("agg")

    def scheduler(self, rule: Any, pool: Any) -> NodeScheduler:
        """Return the scheduler of the one-node graph ``agg`` that runs a rule on a pool."""
        key = getattr(rule, "input_key", "gradients")
        graph = make_single_operator_graph(node_name="agg", operator=rule, input_keys=(key,))
        return NodeScheduler(graph, pool=pool, metadata=self.metadata)


def rule_of(pre: Any, rule: Any) -> RowOperator | None:
    """Return pre-aggregator and aggregator as one rule over rows, or None if they are not that.

    A `Pipeline` whose aggregator has no state is its parts.

    Examples
    --------
    >>> rule_of(None, object()) is None
    True
    """
    parts = [*(() if pre is None else (pre,)), *(rule.operators if type(rule) is Pipeline else (rule,))]
    if not all(map(is_rule, parts)):
        return None
    return compose(parts) if len(segments(parts)) == 1 else None


def _eager(rule: RowOperator, rows: Sequence[Any]) -> tuple[Any, Any]:
    """Run in place, one thread, and keep the plan; the same bits as ``run_rows``."""
    matrix = as_rows(rows)
    plan = _plan(rule, matrix, measured=rule.measures and not rule.optimistic)
    out = _applied(rule, matrix, plan)
    if rule.optimistic and not math.isfinite(norm_of(out)):
        plan = _plan(rule, matrix)
        out = _applied(rule, matrix, plan)
    return assemble([out], matrix.template)[0], plan


def _plan(rule: RowOperator, matrix: Rows, *, measured: bool = True) -> Any:
    rule.check(matrix.n)
    tree = Tree({})
    if measured and rule.measures:
        with one_thread():
            tree = measure_blocks(rule, matrix, matrix.span)
    return solve_tree(rule, tree, matrix.n)


def _applied(rule: RowOperator, matrix: Rows, plan: Any) -> Any:
    out = matrix.like(rule.height(plan, matrix.n), matrix.d)
    with one_thread():
        apply_blocks(rule, matrix, plan, matrix.span, out)
    return out


def row_weights(rule: Any, plan: Any) -> list[float] | None:
    """Return the weight of each row in a linear rule's plan with one row of weights; None for any other.

    Examples
    --------
    >>> row_weights(None, None) is None
    True
    """
    if not isinstance(plan, Weights) or plan.mixture.height != 1 or is_columnwise(rule):
        return None
    return [float(weight) for weight in plan.whole[0]]


async def _mixed(pre: Any, rows: list[Any]) -> tuple[Any, Any]:
    """Return what a pre-aggregator makes of rows, and the matrix that does it, if there is one."""
    if pre is None:
        return rows, None
    if is_rule(pre):
        return await asyncio.to_thread(run_piece, [pre], rows)
    mixed = await _call(pre.pre_aggregate, rows)
    if not isinstance(mixed, Iterable):
        raise TypeError(
            f"{type(pre).__name__}.pre_aggregate must return a list of vectors; got {type(mixed).__name__}. "
            "Return all rows that the aggregator is to see."
        )
    return list(mixed), None


def _one_vector(value: Any, rule: Any, shape: tuple[int, ...]) -> Any:
    """Return what a rule has made of vectors if it looks like one of them."""
    found = digest_of(value)
    if found.signature is None or found.signature.shape != shape:
        got = found.kind if found.signature is None else f"shape {found.signature.shape}"
        raise TypeError(
            f"{type(rule).__name__} must return a vector of shape {shape}; got {got}. Return the aggregate."
        )
    return value


async def _stepped(rule: Any, rows: Any, state: Any) -> tuple[Any, Any, Any]:
    """Do a step of a rule, which may be no `StatefulAggregator` but act like one."""
    if isinstance(rule, StatefulAggregator) and not inspect.iscoroutinefunction(rule.step):
        return await asyncio.to_thread(rule.weighted_step, rows, state)
    return (*await _call(rule.step, rows, state), None)


def _of_rows(weights: Any, pre: Any, mixing: Any) -> list[float] | None:
    """Return the weights of the rows of a round from those of what `pre` has made of them."""
    found = weights if pre is None else through(mixing, weights)
    return None if found is None else [float(weight) for weight in found]


def _is_small(rows: Sequence[Any]) -> bool:
    size = 1
    for length in rows[0].shape:
        size *= length
    return len(rows) * size <= SMALL


async def _call(method: Any, *args: Any) -> Any:
    if inspect.iscoroutinefunction(method):
        return await method(*args)
    return await asyncio.to_thread(method, *args)
