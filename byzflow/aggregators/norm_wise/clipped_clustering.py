"""Clipped clustering: rows shortened to what was usual so far, and the larger of two groups of directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

import numpy as np

from byzflow.aggregators.base import MixingAggregator, StatefulAggregator
from byzflow.aggregators.norm_wise._clusters import larger_half
from byzflow.kernels.blocks import Span
from byzflow.kernels.gram import gram_block
from byzflow.kernels.rows import Array, Rows
from byzflow.operators.base import frozen
from byzflow.operators.checks import carried, positive
from byzflow.operators.geometry import Geometry
from byzflow.operators.lazy import as_lazy, lazy_rows
from byzflow.operators.linear import Weights, as_plan, geometry_of
from byzflow.operators.passes import combine, survey
from byzflow.operators.rows import RowOperator, Stats

__all__ = ("ClippedClustering",)


@frozen
class _Survey(RowOperator):
    """The rows' geometry as a plan, to be made weights of before it is applied."""

    name: ClassVar[str] = "clipped-clustering"
    measures: ClassVar[bool] = True

    def measure(self, rows: Rows, span: Span) -> Stats:
        return gram_block(rows, span, ("zero",))

    def solve(self, stats: Stats, n: int) -> Geometry:
        return geometry_of(stats, n, ("zero",))

    def emit(self, rows: Rows, plan: Weights, span: Span, out: Array) -> None:
        plan.emit(rows, span, out)


@frozen
class ClippedClustering(MixingAggregator, StatefulAggregator):
    """Average the larger of two clusters of directions, of rows shortened to the median norm of all rounds.

    With M the (lower) median of all norms seen so far, this round's included, rows are scaled by
    ``min(1, M / |x_i|)``. Average linkage on ``1 - cos(x_i, x_j)`` makes two clusters, and the mean of the
    larger one (of equal ones: that of the lowest index) is the answer. A row of zeros is at right angles to
    every other.

    Parameters
    ----------
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ToleranceError
        If no row is finite.

    Notes
    -----
    Two passes: inner products, O(n**2 d); the weighted sum, O(n d). Between them O(n**2 log n).
    `aggregate` is a first round; `step` carries the norms, ``{"norms": (rows so far,)}``. It assumes that
    most rows are honest. The authors' program (lishenghui/blades) takes the mean of the two middle norms
    for M, and at most 1e5.

    References
    ----------
    .. [1] Li, Ngai, Voigt, "An experimental study of Byzantine-robust aggregation schemes in federated
       learning", IEEE Transactions on Big Data, 2023.
    .. [2] Sattler, Müller, Wiegand, Samek, "On the Byzantine robustness of clustered federated learning",
       ICASSP 2020.

    Examples
    --------
    >>> rule = ClippedClustering()
    >>> rows = [np.array([1.0, 0.0]), np.array([3.0, 0.0]), np.array([-9.0, 0.0])]
    >>> rule.aggregate(rows)
    array([2., 0.])
    >>> rule.step(rows, {"norms": np.full(9, 1.0)})[0]
    array([1., 0.])
    """

    chunk_size: int = field(default=8192, kw_only=True)
    name: ClassVar[str] = "clipped-clustering"

    def __post_init__(self) -> None:
        positive("chunk_size", self.chunk_size)

    def step(
        self, gradients: Sequence[Array], state: Mapping[str, Array] | None
    ) -> tuple[Array, Mapping[str, Array]]:
        """Return the aggregate, and the norms of all rounds."""
        return ClippedClustering.weighted_step(self, gradients, state)[:2]

    def weighted_step(
        self, gradients: Sequence[Array], state: Mapping[str, Array] | None
    ) -> tuple[Array, Mapping[str, Array], Sequence[float] | None]:
        """Do as `step`, and return the weights of the vectors too."""
        past = np.zeros(0) if state is None else carried("ClippedClustering", state, "norms")[0]
        if (lazy := as_lazy(gradients)) is not None:
            return (*self._lazy_step(lazy, past), None)
        geometry = survey(gradients)
        weights = self._weights(geometry, np.asarray(past, np.float64))
        (answer,) = combine(gradients, weights)
        return answer, {"norms": _longer(geometry, past)}, weights.tolist()

    def _lazy_step(self, X: Any, past: Any) -> tuple[Any, Mapping[str, Any]]:
        """Do a step on a `dask.array`; how many norms are finite, and so in the state, is not known yet."""
        import dask.array as da
        from dask.delayed import delayed

        norms: list[Any] = []

        def revise(geometry: Any) -> Any:
            longer = delayed(_longer, pure=False)(geometry, past)
            norms.append(da.from_delayed(longer, (np.nan,), dtype=np.float64))
            return delayed(self._plan, pure=False)(geometry, past)

        answer = lazy_rows(_Survey(), X, revise)[0]
        return answer, {"norms": norms[0]}

    def measure(self, rows: Rows, span: Span) -> Stats:
        """Return the block's Gram matrix, with the origin."""
        return gram_block(rows, span, ("zero",))

    def solve(self, stats: Stats, n: int) -> Weights:
        """Return the weights of a first round."""
        return self._plan(geometry_of(stats, n, ("zero",)), np.zeros(0))

    def _plan(self, geometry: Geometry, past: Any) -> Weights:
        return as_plan(self._weights(geometry, np.asarray(past, np.float64))[None], geometry)

    def _weights(self, geometry: Geometry, past: np.ndarray) -> np.ndarray:
        geometry.require_finite(1, "ClippedClustering")
        good = np.flatnonzero(geometry.finite)
        norms = geometry.norms[good]
        seen = np.sort(np.concatenate((past, norms)))
        usual = seen[(len(seen) - 1) // 2]
        lengths = np.where(norms > 0.0, norms, 1.0)
        cosines = geometry.products[np.ix_(good, good)] / lengths / lengths[:, None]
        kept = larger_half(cosines)
        weights = np.zeros(geometry.n)
        weights[good[kept]] = np.minimum(1.0, usual / lengths[kept]) / len(kept)
        return weights


def _longer(geometry: Geometry, past: Any) -> np.ndarray:
    """Return the norms of all rounds, with those of the finite rows of this one."""
    return np.concatenate((np.asarray(past, np.float64), geometry.norms[geometry.finite]))
