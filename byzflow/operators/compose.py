"""Chains of linear rules as one rule: the Gram matrix of W X is W G Wᵀ, so any such chain is two passes.

A chain may end in a column-wise rule, which then sees the columns of W X one block at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from byzflow.kernels.blocks import Span
from byzflow.kernels.gram import gram_block, norms_block
from byzflow.kernels.rows import Array, Rows
from byzflow.kernels.small import product
from byzflow.operators.base import Operator
from byzflow.operators.columnwise import ColumnwiseOperator
from byzflow.operators.lazy import as_lazy, lazy_rows
from byzflow.operators.linear import LinearOperator, Weights, as_plan, geometry_of
from byzflow.operators.rows import RowOperator, Stats

__all__ = ("Chain", "compose", "drawn", "fusable", "is_columnwise", "run_piece", "segments", "through")


def fusable(first: Operator, then: Operator) -> bool:
    """Whether `then`, fed with what `first` makes of the rows, can run in `first`'s two passes.

    Examples
    --------
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> fusable(CoordinateWiseMedian(), CoordinateWiseMedian())
    False
    """
    if not isinstance(first, LinearOperator) or first.extra or isinstance(first, Chain):
        return False
    if not (first.by_phases and getattr(then, "by_phases", False)):
        return False
    if isinstance(then, LinearOperator):
        # A median of W X is not known from the geometry of X.
        return not then.extra and "median" not in then.anchors
    return isinstance(then, ColumnwiseOperator) and not then.measures


def segments(operators: Sequence[Operator]) -> list[list[Operator]]:
    """Cut a chain where it cannot be fused; each piece runs on the answer of the one before.

    Examples
    --------
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> len(segments([CoordinateWiseMedian()]))
    1
    """
    pieces: list[list[Operator]] = []
    for operator in operators:
        if pieces and fusable(pieces[-1][-1], operator):
            pieces[-1].append(operator)
        else:
            pieces.append([operator])
    return pieces


def compose(operators: Sequence[Operator]) -> RowOperator:
    """Return one rule that does what the chain does, in two passes.

    Parameters
    ----------
    operators : sequence of Operator
        Linear rules, the last one linear or column-wise.

    Raises
    ------
    ValueError
        If the chain is empty or cannot be fused; `segments` says where.
    """
    pieces = segments(operators)
    if len(pieces) != 1 or not (isinstance(last := pieces[0][-1], RowOperator) and last.by_phases):
        names = " -> ".join(type(operator).__name__ for operator in operators)
        raise ValueError(
            f"A fused chain needs linear rules, the last one linear or column-wise; got {names or 'none'}. "
            f"Run it in the pieces that segments() returns."
        )
    chain = pieces[0]
    if len(chain) == 1:
        return chain[0]  # type: ignore[return-value]  # checked above
    return Chain(tuple(chain[:-1]), chain[-1])  # type: ignore[arg-type]  # segments() made them linear


def run_piece(piece: Sequence[Any], vectors: Any) -> tuple[Any, np.ndarray | None]:
    """Return the rows that a piece of `segments` makes of n vectors, and W, (k, n), if they are W X.

    Lazy rows have no W yet.
    """
    if isinstance(piece[-1], RowOperator) and piece[-1].by_phases:
        rule = compose(piece)
        if (lazy := as_lazy(vectors)) is not None:
            return lazy_rows(rule, lazy), None
        rows, plan = rule.run_planned(vectors)
        is_linear = isinstance(plan, Weights) and not is_columnwise(rule)
        return rows, plan.whole if is_linear else None
    (rule,) = piece
    return (
        rule.pre_aggregate(vectors) if hasattr(rule, "pre_aggregate") else [rule.aggregate(vectors)]
    ), None


def through(mixing: np.ndarray | None, weights: Any) -> np.ndarray | None:
    """Return the weights of n vectors from those of what a linear rule has made of them; None if unknown.

    Examples
    --------
    >>> through(np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]), [0.5, 0.5])
    array([0.25, 0.25, 0.5 ])
    """
    if mixing is None or weights is None:
        return None
    return np.asarray(product(np.asarray(weights, np.float64)[None], mixing)[0])


@dataclass(frozen=True)
class Chain(RowOperator):
    """Linear rules in a row, then one linear or column-wise rule.

    Attributes
    ----------
    stages : tuple of LinearOperator
        Applied in order.
    last : LinearOperator or ColumnwiseOperator
        Applied to what they leave.
    """

    stages: tuple[LinearOperator, ...]
    last: LinearOperator | ColumnwiseOperator

    name: ClassVar[str] = "chain"
    measures: ClassVar[bool] = True
    supports_barriered_subtasks: ClassVar[bool] = True

    @property
    def linear(self) -> tuple[LinearOperator, ...]:
        """The stages, and the last rule if it is linear."""
        return self.stages if isinstance(self.last, ColumnwiseOperator) else (*self.stages, self.last)

    @property
    def anchors(self) -> tuple[str, ...]:
        """The first stage's anchors and the origin, which every later stage may need."""
        return (*(a for a in self.stages[0].anchors if a != "zero"), "zero")

    @property
    def uses(self) -> frozenset[str]:
        """Whether a Gram matrix is needed: norms alone will do if only the first rule looks at the rows."""
        first, *others = self.linear
        return frozenset({"gram"}) if any(rule.uses for rule in others) else first.uses

    @property
    def single(self) -> bool:
        """Whether the last rule answers with one row."""
        return self.last.single

    def check(self, n: int) -> None:
        """Check the first rule; the others see their own n when they are solved."""
        self.linear[0].check(n)

    def measure(self, rows: Rows, span: Span) -> Stats:
        """Return what the first stage needs of the block, and the Gram matrix if a later one does."""
        return gram_block(rows, span, self.anchors) if "gram" in self.uses else norms_block(rows, span)

    def solve(self, stats: Stats, n: int) -> Weights:
        """Return the product of all weights."""
        geometry = geometry_of(stats, n, self.anchors)
        seen = geometry
        mixed = []
        rules = self.linear
        for position, rule in enumerate(rules):
            rule.check(seen.n)
            W = np.atleast_2d(np.asarray(rule.weights(seen), np.float64))
            mixed.append(W[:, : seen.n] if position else W)
            if position + 1 < len(rules):
                seen = seen.mix(W[:, : seen.n]) if len(seen.gram) else _known_only_by_number(len(W))
        total = mixed[-1]
        for W in mixed[-2::-1]:  # from the last, which has the fewest rows
            total = product(total, W)
        if isinstance(self.last, ColumnwiseOperator):
            self.last.check(len(total))
        return as_plan(total, geometry)

    def height(self, plan: Weights, n: int) -> int:
        """Return the number of rows of the answer."""
        return plan.mixture.height if isinstance(self.last, LinearOperator) else 1

    def in_place(self, rows: Rows, plan: Weights) -> bool:
        """Whether the last rule is linear and reads rows where they lie."""
        return isinstance(self.last, LinearOperator) and self.last.in_place(rows, plan)

    def emit(self, rows: Rows, plan: Weights, span: Span, out: Array) -> None:
        """Write W X, or the column-wise rule of W X, for one block."""
        if isinstance(self.last, LinearOperator):
            self.last.emit(rows, plan, span, out)
            return
        mixed = rows.like(plan.mixture.height, span.width)
        self.stages[-1].emit(rows, plan, span, mixed)
        out[:, :] = self.last.columns(mixed)

    def finish(self, answer: list[Array]) -> Any:
        """Return what the last rule returns."""
        return self.last.finish(answer)


def is_columnwise(rule: RowOperator) -> bool:
    """Whether a rule, or the last one of a chain, takes each coordinate for itself.

    Examples
    --------
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> from byzflow.pre_aggregators import NearestNeighborMixing
    >>> mixing, median = NearestNeighborMixing(f=1), CoordinateWiseMedian()
    >>> is_columnwise(compose([mixing, median])), is_columnwise(mixing)
    (True, False)
    """
    return isinstance(rule.last if isinstance(rule, Chain) else rule, ColumnwiseOperator)


def drawn(rule: Any, n: int) -> Any:
    """Return a rule that draws at random as it draws now for n rows, so that to solve it again is the same.

    Examples
    --------
    >>> from byzflow.pre_aggregators import Bucketing
    >>> sorted(drawn(Bucketing(2), 3).perm)
    [0, 1, 2]
    """
    if not isinstance(rule, Chain):
        draw = getattr(rule, "drawn", None)
        return rule if draw is None else draw(n)
    stages = []
    for stage in rule.stages:
        stages.append(drawn(stage, n))
        n = len(stages[-1].pre_aggregate([np.zeros(1)] * n))
    return replace(rule, stages=tuple(stages))


def _known_only_by_number(k: int) -> Any:
    return geometry_of({}, k, ("zero",))
