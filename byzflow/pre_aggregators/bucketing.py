"""Bucketing: means of small random groups."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import field, replace
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np

from byzflow.kernels.combine import Mixture
from byzflow.kernels.native import shuffled
from byzflow.kernels.noise import fresh_key
from byzflow.kernels.small import compiled
from byzflow.operators.base import frozen
from byzflow.operators.checks import index, index_without, positive, several
from byzflow.operators.geometry import Geometry
from byzflow.operators.linear import Weights
from byzflow.operators.rows import Stats
from byzflow.pre_aggregators.base import LinearPreAggregator

__all__ = ("Bucketing",)


@frozen
class Bucketing(LinearPreAggregator):
    """Replace the rows by the means of random groups of ``bucket_size`` rows.

    With the order ``p``, ``y_j = mean(x_p(j s), ..., x_p(j s + s - 1))``; the last group may be smaller.
    Makes honest rows more alike, at the price of a larger share of bad ones. A row that is not finite is
    left out of its group's mean; a group of nothing else gives zeros.

    Parameters
    ----------
    bucket_size : int
        Rows in a group, s.
    feature_chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.
    perm : iterable of int, optional
        The order: a permutation of ``range(n)``, used at every call.
    rng : random.Random, optional
        Draws the order at every call if `perm` is not given; by default it is drawn from the system.

    Raises
    ------
    ValueError
        If `perm` is no permutation of ``range(n)``.

    Notes
    -----
    Linear: one pass, O(n d); a second one only if a row is not finite, and it draws a new order if `perm` is
    not given. ``ceil(n / s)`` rows come out. Memory O(n**2 / s) beyond input and output.

    References
    ----------
    .. [1] Karimireddy, He, Jaggi, "Byzantine-robust learning on heterogeneous datasets via bucketing",
       ICLR 2022.

    Examples
    --------
    >>> Bucketing(2, perm=[0, 2, 1]).pre_aggregate([np.zeros(1), np.full(1, 5.0), np.full(1, 2.0)])
    [array([1.]), array([5.])]
    """

    bucket_size: int
    feature_chunk_size: int = field(default=8192, kw_only=True)
    perm: Iterable[int] | None = field(default=None, kw_only=True)
    rng: random.Random | None = field(default=None, kw_only=True)
    uses: ClassVar[frozenset[str]] = frozenset()
    name: ClassVar[str] = "pre-agg/bucketing"
    keeps_nodes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive("bucket_size", self.bucket_size)
        positive("feature_chunk_size", self.feature_chunk_size)
        if self.perm is not None:
            order = tuple(index("perm", i) for i in several("perm", self.perm))
            object.__setattr__(self, "perm", order)
        if self.rng is not None and not callable(getattr(self.rng, "shuffle", None)):
            raise TypeError(
                f"rng must be a random.Random; got {type(self.rng).__name__}. Pass random.Random(seed)."
            )

    def check(self, n: int) -> None:
        """Raise ValueError unless `perm` is a permutation of ``range(n)`` or not given."""
        if self.perm is not None and sorted(self.perm) != list(range(n)):
            raise ValueError(
                f"Bucketing needs perm to be a permutation of range({n}), n being the number of vectors; "
                f"got {len(tuple(self.perm))} indices. Pass each of 0..{n - 1} once."
            )

    def without(self, nodes: Collection[int]) -> Self:
        """Return the rule with the order of the rows that are left."""
        if self.perm is None:
            return self
        places = (index_without(i, nodes) for i in self.perm)
        return replace(self, perm=tuple(place for place in places if place is not None))

    def drawn(self, n: int) -> Self:
        """Return the rule with an order for n rows: its own, or what it draws now."""
        return self if self.perm is not None else replace(self, perm=self._groups(n).tolist())

    def solve(self, stats: Stats, n: int) -> Weights:
        """Return the weights of the rows: where all are finite, the same for each group in its order."""
        if stats:
            return super().solve(stats, n)
        plan = _in_order(n, self.bucket_size)
        return Weights(plan.mixture.reordered(self._groups(n)), None, plan.finite)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return one row of weights for each group."""
        W: np.ndarray = _means(self._groups(geometry.n), geometry.finite, self.bucket_size)
        return W

    def _groups(self, n: int) -> Any:
        """Return the rows of one group after those of another."""
        if self.perm is None and self.rng is None:
            # To seed a generator of Python's for it takes longer.
            return _drawn(fresh_key(), n, self.bucket_size)
        order = list(range(n) if self.perm is None else self.perm)
        if self.perm is None and self.rng is not None:
            self.rng.shuffle(order)
        return _ascending(np.array(order), self.bucket_size)


@lru_cache(maxsize=64)
def _in_order(n: int, size: int) -> Weights:
    """Return the plan for the means of `size` rows as they follow one another."""
    finite = np.ones(n, np.bool_)
    return Weights(Mixture.of(_means(np.arange(n), finite, size)), None, finite)


@compiled
def _ascending(order: np.ndarray, size: int) -> np.ndarray:
    """Return the order with each group sorted, so that no bit of its mean depends on the order in it."""
    n = len(order)
    free, answer = np.arange(0, n, size), np.empty(n, np.int64)  # free: the next place of each group
    group = np.empty(n, np.int64)
    for place in range(n):
        group[order[place]] = place // size
    for i in range(n):
        answer[free[group[i]]] = i
        free[group[i]] += 1
    return answer


@compiled
def _drawn(key: int, n: int, size: int) -> np.ndarray:
    """Return the rows of random groups that follow from a key."""
    return _ascending(shuffled(key, n), size)


@compiled
def _means(order: np.ndarray, finite: np.ndarray, size: int) -> np.ndarray:
    """Return the weights of the means of `size` finite rows after one another in `order`, (k, n)."""
    n = len(order)
    W = np.zeros((-(-n // size), n))
    for first in range(0, n, size):
        group = order[first : first + size]
        count = 0
        for i in group:
            count += finite[i]
        for i in group:
            if finite[i]:
                W[first // size, i] = 1.0 / count
    return W
