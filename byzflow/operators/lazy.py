"""The three phases on a `dask.array`: an (n, d) array chunked along d gives a lazy answer of d columns.

Chunks are cut to whole canonical blocks, so the bits are those of the eager driver. Nothing is computed
while the graph is built, and dask is imported only when such an array comes in. The chunks of an input too
large to keep are computed twice, once for each pass: they must come out the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any
from uuid import uuid4

import numpy as np

from byzflow.kernels.blocks import Span, Tree
from byzflow.kernels.intake import as_rows, grid_of
from byzflow.kernels.rows import Array
from byzflow.operators.rows import RowOperator
from byzflow.operators.shards import apply_shard, measure_shard, solve_tree

__all__ = ("as_lazy", "is_lazy", "lazy_below", "lazy_rows")

_FAN_IN = 8

_KEPT = 1 << 30
"""An input larger than this is computed once for each pass rather than kept between them [bytes]."""


def is_lazy(value: Any) -> bool:
    """Whether `value` is a `dask.array`, or anything else with a Dask graph and chunks."""
    return hasattr(value, "__dask_graph__") and isinstance(getattr(value, "chunks", None), tuple)


def as_lazy(value: Any) -> Any:
    """Return a `dask.array`, or a list of them stacked, whole numbers as float64; None for anything else.

    Examples
    --------
    >>> as_lazy([np.ones(3)]) is None
    True
    """
    if isinstance(value, (list, tuple)):
        if not value or not is_lazy(value[0]):
            return None
        import dask.array as da

        value = da.stack(value)
    return _floating(value) if is_lazy(value) else None


def _floating(X: Any) -> Any:
    """Return whole numbers as float64: an answer has the dtype of its rows."""
    return X.astype(np.float64) if X.dtype.kind in "biu" else X


def lazy_below(X: Any, rows: Any) -> Any:
    """Return a lazy (n, d) array with the rows, (k, d), that a state holds below its own."""
    import dask.array as da

    return da.concatenate([X, rows])


def lazy_rows(op: RowOperator, X: Any, revise: Callable[[Any], Any] | None = None) -> Any:
    """Return the answer's rows as a lazy (k, d) `dask.array`.

    Parameters
    ----------
    op : RowOperator
        The rule.
    X : dask.array, (n, d)
        The rows; chunked along d. Chunks along n are joined.
    revise : callable, optional
        For a rule that carries a state: makes of the delayed plan the delayed one that is applied.

    Raises
    ------
    ValueError
        If X is not of rank 2, or its shape is unknown.
    """
    import dask.array as da
    from dask.delayed import delayed

    n = _rows_of(X)
    op.check(n - op.extra)
    X = _floating(X)
    X = X.rechunk({0: -1, 1: _aligned(X.chunks[1], grid_of(X._meta, X.shape[1]))})
    spans = [Span(lo, hi) for lo, hi in pairwise([0, *accumulate(X.chunks[1])])]
    chunks = list(X.to_delayed().ravel())
    if op.measures:
        plan = _lazy_plan(op, chunks, spans, n - op.extra)
        plan = plan if revise is None else revise(plan)
        if X.nbytes > _KEPT:
            # Both passes over one graph would keep every chunk in memory from the first to the second.
            chunks = _afresh(chunks)
        height = 1 if op.single else _height(op, n)
    else:
        plan = op.solve({}, n - op.extra)
        height = op.height(plan, n - op.extra)
    emit = delayed(_emit, pure=False)
    token = uuid4().hex
    parts = [
        da.from_delayed(
            emit(
                op,
                chunk,
                span,
                spans[-1].hi,
                plan,
                str(X.dtype),
                dask_key_name=f"{op.name}-apply-{token}-{i}",
            ),
            (height, span.width),
            dtype=X.dtype,
            meta=X._meta,
        )
        for i, (chunk, span) in enumerate(zip(chunks, spans, strict=True))
    ]
    return da.concatenate(parts, axis=1)


def _rows_of(X: Any) -> int:
    if X.ndim != 2 or any(size != size for size in X.shape):
        raise ValueError(
            f"A lazy input needs a known shape (n, d); got shape {X.shape}. Call "
            f"compute_chunk_sizes(), or stack the vectors with da.stack."
        )
    if X.shape[0] == 0:
        raise ValueError("At least one vector is required; got shape (0, d). Pass one vector per node.")
    return int(X.shape[0])


def _lazy_plan(op: RowOperator, chunks: Sequence[Any], spans: Sequence[Span], n: int) -> Any:
    """Return the delayed plan: a measurement of every chunk, summed by a tree, solved once."""
    from dask.delayed import delayed

    token = uuid4().hex
    measure = delayed(measure_shard, pure=False)
    trees = [
        measure(op, chunk, span, spans[-1].hi, dask_key_name=f"{op.name}-measure-{token}-{i}")
        for i, (chunk, span) in enumerate(zip(chunks, spans, strict=True))
    ]
    merge = delayed(Tree.merge, pure=False)
    while len(trees) > 1:
        trees = [merge(trees[i : i + _FAN_IN]) for i in range(0, len(trees), _FAN_IN)]
    return delayed(solve_tree, pure=False)(op, trees[0], n, dask_key_name=f"{op.name}-solve-{token}")


def _height(op: RowOperator, n: int) -> int:
    """Return how many rows the answer will have, by trying it on one column: data does not decide it."""
    probe = np.arange(n, dtype=float)[:, None]
    stats = op.measure(as_rows(probe), Span(0, 1))
    return op.height(op.solve(stats, n - op.extra), n - op.extra)


def _afresh(chunks: Sequence[Any]) -> list[Any]:
    """Return the same chunks under new names, so that a second pass computes them again.

    `dask.graph_manipulation.clone` is meant for this, but leaves old names in graphs of task objects.
    """
    from dask.delayed import Delayed

    graph = dict(chunks[0].dask)
    names = {
        key: (f"again-{key[0]}", *key[1:]) if isinstance(key, tuple) else f"again-{key}" for key in graph
    }
    renamed = {names[key]: task.substitute(names, key=names[key]) for key, task in graph.items()}
    return [Delayed(names[chunk.key], renamed) for chunk in chunks]


def _aligned(chunks: tuple[int, ...], width: int) -> tuple[int, ...]:
    """Move every boundary between chunks up to the next canonical one."""
    d = sum(chunks)
    ends = sorted({min(d, -(-end // width) * width) for end in accumulate(chunks)} - {0})
    return tuple(hi - lo for lo, hi in pairwise([0, *ends])) or (0,)


def _emit(op: RowOperator, chunk: Array, span: Span, d: int, plan: Any, dtype: str) -> Array:
    return apply_shard(op, chunk, span, d, plan).astype(dtype, copy=False)
