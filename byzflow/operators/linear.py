"""Linear rules: the answer is W X, and W is small enough to be found on the host, from the rows' geometry."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np

from byzflow.kernels.blocks import Span
from byzflow.kernels.columns import median_anchor
from byzflow.kernels.combine import Mixture, combine_rows
from byzflow.kernels.finite import finite_block
from byzflow.kernels.gram import gram_block, norms_block
from byzflow.kernels.rows import Array, Rows
from byzflow.operators.geometry import LONGEST, Geometry
from byzflow.operators.rows import RowOperator, Stats

__all__ = ("LinearOperator", "MixingOperator", "Weights", "as_plan", "geometry_of")


class Weights(NamedTuple):
    """The plan of a linear rule.

    Attributes
    ----------
    mixture : Mixture
        Weights of the rows, (k, n).
    median : ndarray, (k,), or None
        Weights of the coordinate-wise median anchor, if any is not 0.
    finite : ndarray, (n,) bool
        Which rows are finite.
    """

    mixture: Mixture
    median: np.ndarray | None
    finite: np.ndarray

    @property
    def whole(self) -> np.ndarray:
        """Weights of all rows, (k, n); anchors left out."""
        W = np.zeros((self.mixture.height, len(self.finite)))
        W[:, self.mixture.picked] = self.mixture.W
        return W

    def in_place(self, rows: Rows) -> bool:
        """Whether `emit` reads rows where they lie: W is sparse, and no anchor is added."""
        return rows.addresses is not None and self.mixture.sparse is not None and self.median is None

    def emit(self, rows: Rows, span: Span, out: Array) -> None:
        """Write W X over one block into `out`, (k, w); any span if `in_place`."""
        combine_rows(rows, self.mixture, span, out)
        if self.median is not None:
            anchor = median_anchor(rows.window(span))
            for i, weight in enumerate(self.median):
                out[i, :] += float(weight) * anchor


class MixingOperator(RowOperator):
    """A rule whose plan is `Weights`, whatever it takes to find them: the second pass is W X."""

    measures: ClassVar[bool] = True
    supports_barriered_subtasks: ClassVar[bool] = True

    @abstractmethod
    def solve(self, stats: Stats, n: int) -> Weights:
        """Return the weights of the rows, from the statistics summed over all columns."""

    def height(self, plan: Weights, n: int) -> int:
        """Return the number of rows of W."""
        return plan.mixture.height

    def in_place(self, rows: Rows, plan: Weights) -> bool:
        """Whether W is sparse and no anchor is added."""
        return plan.in_place(rows)

    def emit(self, rows: Rows, plan: Weights, span: Span, out: Array) -> None:
        """Write W X of one block."""
        plan.emit(rows, span, out)


class LinearOperator(MixingOperator):
    """A rule whose author writes `weights`; two passes over the data, whatever happens between them.

    Attributes
    ----------
    uses : frozenset of {"gram", "norms"}
        What `weights` looks at. Empty: nothing but n and which rows are finite, so that one pass is enough
        as long as they all are.
    constant : bool
        Whether the weights follow from the rule and n alone if all rows are finite, without chance, so that
        they may be kept from call to call. The rule must be hashable.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"gram"})
    constant: ClassVar[bool] = False

    @abstractmethod
    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return W, (k, m) or (m,) float64, from the geometry of the n rows; m counts the anchors.

        Rows that are not finite must get weight 0.
        """

    @property
    def anchors(self) -> tuple[str, ...]:
        """Points that are no rows and that `weights` may use: of ``"median"`` and ``"zero"``."""
        return ()

    @property
    def optimistic(self) -> bool:
        """Whether the weights are known without looking at the rows, if those are finite."""
        return not self.uses

    def measure(self, rows: Rows, span: Span) -> Stats:
        """Return the block's squared norms, and its Gram matrix if the rule uses it; else what is finite."""
        if "gram" in self.uses:
            return gram_block(rows, span, self.anchors)
        return norms_block(rows, span) if self.uses else finite_block(rows, span)

    def solve(self, stats: Stats, n: int) -> Weights:
        """Return the weights of the rows that count."""
        if self.constant and not stats:
            return _constant_plan(self, n)
        return _plan(self, stats, n)


def _plan(rule: LinearOperator, stats: Stats, n: int) -> Weights:
    m = n + rule.extra
    geometry = geometry_of(stats, m, rule.anchors) if stats or rule.uses else _unseen(m, rule.anchors)
    given = np.asarray(rule.weights(geometry), np.float64)
    W = given if given.ndim == 2 else given[None]
    widths = (geometry.n, geometry.n + len(rule.anchors))
    if W.ndim != 2 or W.shape[1] not in widths or (rule.single and len(W) != 1):
        wanted = "one weight" if rule.single else "one or more rows of weights, one"
        raise ValueError(
            f"{type(rule).__name__}.weights must return {wanted} for each of n={geometry.n} rows; got shape "
            f"{given.shape}. Return zeros for rows that do not count."
        )
    seen = rule.uses and np.count_nonzero(geometry.finite) < geometry.n
    if seen and W[:, : geometry.n][:, ~geometry.finite].any():
        raise ValueError(
            f"{type(rule).__name__}.weights must return 0 for rows that are not finite; got a weight for one "
            f"of n={geometry.n}. Ask geometry.finite, or rank rows with geometry.rank."
        )
    return as_plan(W, geometry)


@lru_cache(maxsize=64)
def _constant_plan(rule: LinearOperator, n: int) -> Weights:
    return _plan(rule, {}, n)


def geometry_of(stats: Stats, m: int, anchors: tuple[str, ...]) -> Geometry:
    """Return the geometry of m rows from summed statistics; without any, they have no columns as yet."""
    if not stats:
        size = m + len(anchors)
        norms = np.zeros(m)
        return Geometry(np.zeros((size, size)), norms, np.isfinite(norms), anchors)
    norms = stats["norms"]
    finite = norms < LONGEST**2
    gram = stats.get("gram")
    whole = np.count_nonzero(finite) == m
    if not whole:
        norms = np.where(finite, norms, np.inf)
    if gram is None:
        return Geometry(np.zeros((0, 0)), norms, finite, anchors)
    if not whole:
        # A row may have been finite in the first blocks: what they added of it goes too.
        gram = gram.copy()
        gram[: len(finite)][~finite] = 0.0
        gram[:, : len(finite)][:, ~finite] = 0.0
    return Geometry(gram, norms, finite, anchors)


@lru_cache(maxsize=64)
def _unseen(m: int, anchors: tuple[str, ...]) -> Geometry:
    """Return the geometry of m rows that a rule does not look at, the same for all such rules."""
    geometry = geometry_of({}, m, anchors)
    geometry.gram.setflags(write=False)
    geometry.finite.setflags(write=False)
    if geometry.sq_norms is not None:
        geometry.sq_norms.setflags(write=False)
    return geometry


def as_plan(W: np.ndarray, geometry: Geometry) -> Weights:
    """Split W into the rows and the median anchor; the zero anchor adds nothing."""
    n = geometry.n
    median = None
    if "median" in geometry.anchors and W.shape[1] > n:
        column = W[:, n + geometry.anchors.index("median")]
        median = column if np.any(column != 0.0) else None
    return Weights(Mixture.of(W[:, :n], geometry.sq_norms), median, geometry.finite)
