"""W X over a span of columns; rows of weight 0 are never touched, since 0 * inf is NaN."""

from __future__ import annotations

from typing import NamedTuple

import array_api_compat
import numpy as np
import torch

from byzflow.kernels import native
from byzflow.kernels.blocks import Span, blocks
from byzflow.kernels.rows import Array, Rows
from byzflow.kernels.small import compiled, dot, matvec

__all__ = ("Mixture", "combine_rows")

_SPARSE = 8
"""A weight matrix with one entry in so many, or fewer, is not multiplied as a matrix."""

_FEW = 2
"""Nor is one that uses each row for so many rows of the answer, or fewer."""

_MANY = 64
"""Of so many rows, most of a dense matrix may be the same in all: only the rest is then worked out."""

_REST = 4
"""That pays if one entry in so many, or fewer, is left."""

_COMMON = 4.0
"""How much larger than any row of the answer what they have in common may be: it is rounded as that is."""

_RANGE = 2.0**100
"""Weights beyond this, or its inverse, are not rounded to float32: that of a huge row that is clipped."""

_Listed = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A matrix in compressed sparse rows: first, column, value."""

_Sparse = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""The same, and the values for rows of float32: rounded, unless they would leave its range."""


class Mixture(NamedTuple):
    """A weight matrix, (k, n), as it is applied: its columns that are not zero, dense or sparse.

    Attributes
    ----------
    picked : ndarray of int
        The rows that are used at all.
    W : ndarray, (k, len(picked)) float64
        Their weights.
    sparse : tuple of ndarray, or None
        W less `common` in compressed sparse rows (first, column, value, value for float32), if that has few
        entries, in a row or in a column. The columns are those of all rows.
    common : ndarray, (len(picked),), or None
        What is taken from every row of W first.
    """

    picked: np.ndarray
    W: np.ndarray
    sparse: _Sparse | None
    common: np.ndarray | None = None

    @classmethod
    def of(cls, W: np.ndarray, sq_norms: np.ndarray | None = None) -> Mixture:
        """Return the mixture with the weights W, (k, n) float64.

        Parameters
        ----------
        W : ndarray, (k, n) float64
            Weights.
        sq_norms : ndarray, (n,), optional
            Squared norms of the rows, if they are known: they say whether what the rows of W have in common
            may be worked out once, or a large row that some leave out would cost the digits of their answer.

        Examples
        --------
        >>> Mixture.of(np.array([[0.5, 0.0, 0.5]])).picked
        array([0, 2])
        """
        k = len(W)
        if k == 1:
            first, picked, value, narrow, fits = _row_entries(np.ascontiguousarray(W[0]))
            return cls(picked, value[None], (first, picked, value, narrow if fits else value))
        picked, W, entries = _entries(np.ascontiguousarray(W))
        if entries is not None:
            return cls(picked, W, _ready(entries))
        if k >= _MANY and sq_norms is not None:
            common, count = _most_common(W)
            if count * _REST <= W.size and _harmless(W, common, sq_norms[picked]):
                return cls(picked, W, _ready(_compressed(W, common, picked, count)), common)
        return cls(picked, W, None)

    @property
    def height(self) -> int:
        """Number of output rows."""
        return len(self.W)

    def reordered(self, order: np.ndarray) -> Mixture:
        """Return the mixture that does with row ``order[i]`` what this one, which is sparse, does with row i.

        All rows are used, and each once, one after another.

        Examples
        --------
        >>> Mixture.of(np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])).reordered(np.array([2, 0, 1])).sparse[1]
        array([2, 0, 1])
        """
        assert self.sparse is not None
        first, _, wide, narrow = self.sparse
        return Mixture(order, self.W, (first, order, wide, narrow))


@compiled
def _compressed(W: np.ndarray, common: np.ndarray, names: np.ndarray, count: int) -> _Listed:
    """Return W less `common`: where its rows begin, and the last one ends, the columns' names, and values."""
    first, column, value = np.empty(W.shape[0] + 1, np.int64), np.empty(count, np.int64), np.empty(count)
    k = 0
    for i in range(W.shape[0]):
        first[i] = k
        for j in range(W.shape[1]):
            if W[i, j] != common[j]:
                column[k], value[k] = names[j], W[i, j] - common[j]
                k += 1
    first[W.shape[0]] = k
    return first, column, value


@compiled
def _in_range(value: np.ndarray) -> bool:
    """Whether no weight but zero is so large or so small that rounding to float32 would spoil it."""
    for weight in value:
        size = abs(weight)
        if size >= _RANGE or 0.0 < size <= 1.0 / _RANGE:
            return False
    return True


@compiled
def _row_entries(row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
    """Return a row in compressed sparse rows, its values also as float32, and whether those will do."""
    picked = np.flatnonzero(row)
    value = row[picked]
    return np.array((0, len(picked))), picked, value, value.astype(np.float32), _in_range(value)


@compiled
def _entries(W: np.ndarray) -> tuple[np.ndarray, np.ndarray, _Listed | None]:
    """Return the columns that are not zero, W without the others, and its entries alone if they are few."""
    used = np.zeros(W.shape[1], np.bool_)
    count = 0
    for i in range(W.shape[0]):
        for j in range(W.shape[1]):
            used[j] |= W[i, j] != 0.0
            count += W[i, j] != 0.0
    picked = np.flatnonzero(used)
    if len(picked) < W.shape[1]:
        W = W[:, picked]
    if count * _SPARSE <= W.size or count <= _FEW * len(picked):
        return picked, W, _compressed(W, np.zeros(len(picked)), picked, count)
    return picked, W, None


@compiled
def _most_common(W: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the value that most of each column has, if most have one, and how many entries differ."""
    k, n = W.shape
    common, votes = np.zeros(n), np.zeros(n)
    for i in range(k):
        row = W[i]
        for j in range(n):
            lost = (votes[j] == 0.0) & (row[j] != common[j])
            common[j] = row[j] if lost else common[j]
            votes[j] += 1.0 if lost or row[j] == common[j] else -1.0
    count = 0
    for i in range(k):
        row = W[i]
        for j in range(n):
            count += row[j] != common[j]
    return common, count


@compiled
def _harmless(W: np.ndarray, common: np.ndarray, sq_norms: np.ndarray) -> bool:
    """Whether the common part is no larger than a few times what any row of W mixes."""
    sizes, mixed = np.sqrt(sq_norms), np.empty(len(W))
    matvec(np.abs(W), sizes, mixed)
    return bool(0.0 < dot(np.abs(common), sizes) <= _COMMON * mixed.min())


def combine_rows(rows: Rows, mixture: Mixture, span: Span, out: Array) -> None:
    """Write W X over `span` into the (k, w) array `out`.

    Parameters
    ----------
    rows : Rows
        The n rows.
    mixture : Mixture
        W; its weights are rounded to the dtype that is computed in, unless they would leave its range.
    span : Span
        Columns to combine.
    out : Array, (k, w)
        Where to write.
    """
    if rows.host and mixture.sparse is not None:
        _combine_sparse(rows, mixture, mixture.sparse, span, out)
        return
    if not len(mixture.picked):
        out[:, :] = 0.0
        return
    if not rows.host or len(mixture.picked) < rows.n:
        rows = rows.pick(mixture.picked)
    X = rows.read(span)
    if not rows.host:
        xp = array_api_compat.array_namespace(X)
        W = xp.asarray(mixture.W, dtype=rows.dtype, device=array_api_compat.device(X))
        out[:, :] = xp.matmul(W, X)
    else:
        # Not into `out` itself: BLAS lets the bits follow the layout of what it writes to, and `out` is a
        # view whose stride depends on how the columns were cut.
        W = mixture.W.astype(rows.dtype)
        out[:, :] = torch.mm(torch.from_numpy(W), torch.from_numpy(X)).numpy()


def _combine_sparse(rows: Rows, mixture: Mixture, sparse: _Sparse, span: Span, out: np.ndarray) -> None:
    first, column, wide, narrow = sparse
    value = wide if rows.dtype is np.float64 else narrow
    picked, addresses, start = mixture.picked, rows.addresses, span.lo - rows.offset
    if addresses is None:
        addresses, start = np.zeros(rows.n, np.uintp), 0
        if len(picked):
            addresses[picked] = native.addresses_of(rows.pick(picked).read(span))
    if mixture.common is None:
        native.combine(addresses, first, column, value, start, None, out)
        return
    # Rows are read for many rows of the answer: a few columns of all of them at a time.
    common, whole = mixture.common.astype(rows.dtype), np.array((0, len(picked)))
    for part in blocks(Span(0, span.width), native.TILE):
        base, target = np.empty((1, part.width), rows.dtype), out[:, part.lo : part.hi]
        where = start + part.lo
        native.combine(addresses, whole, picked, common, where, None, base)
        native.combine(addresses, first, column, value, where, base[0], target)


def _ready(entries: _Listed) -> _Sparse:
    value = entries[2]
    return (*entries, value.astype(np.float32) if _in_range(value) else value)
