"""What a Dask task does: each phase of a rule on one column shard, and a whole chain on small rows.

These functions are all that a compiled graph calls. Arrays travel as `Vec`; a shard that would be empty,
because there are fewer canonical blocks than shards, is None.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import array_api_compat
import torch
from dask.sizeof import sizeof
from distributed.protocol.serialize import dask_deserialize, dask_serialize

from byzflow.engine.actor.vec import Vec, pack, unpack, unwrap, wrap
from byzflow.kernels.blocks import Span, Tree, shards
from byzflow.kernels.intake import as_rows
from byzflow.kernels.rows import Array, Rows
from byzflow.kernels.template import Template
from byzflow.operators.base import OpContext
from byzflow.operators.rows import RowOperator
from byzflow.operators.shards import apply_shard, measure_shard, solve_tree

__all__ = (
    "Link",
    "Shard",
    "apply",
    "cut",
    "cut_rows",
    "cut_vector",
    "gather",
    "join",
    "measure",
    "merge",
    "plain",
    "plan_ahead",
    "run_chain",
    "run_chain_planned",
    "solve",
)

Link = tuple[RowOperator, str]
"""An operator and the argument that holds its rows."""

_CARRIED = (torch.float16, torch.float32, torch.float64)

Counted = tuple[Tree, int]
"""Statistics of some columns, and how many rows they were taken over."""


@dataclass(frozen=True, eq=False)
class Shard:
    """Some columns of n vectors, and what the whole vectors look like."""

    slices: tuple[Any, ...]
    span: Span
    template: Template

    @property
    def arrays(self) -> list[Array]:
        """The n slices, each of shape ``(span.width,)``."""
        return [unwrap(part) for part in self.slices]

    @property
    def d(self) -> int:
        """Number of columns of the whole vectors."""
        return math.prod(self.template.shape)


def cut_rows(rows: Rows, k: int) -> list[Shard]:
    """Cut rows into at most k shards, without a copy.

    Examples
    --------
    >>> import numpy as np
    >>> [len(shard.slices) for shard in cut_rows(as_rows([np.zeros(100_000)] * 3), 2)]
    [3, 3]
    """
    return [
        Shard(tuple(wrap(vector[span.lo : span.hi]) for vector in rows.vectors), span, rows.template)
        for span in shards(rows.d, k, rows.grid)
    ]


def cut(op: RowOperator, argument: str, value: Any, index: int, k: int) -> Shard | None:
    """Return one of the k shards of the vectors that `op` finds in a whole value."""
    return _nth(as_rows(op.vectors({argument: unwrap(value)})), index, k)


def cut_vector(vector: Any, index: int, k: int) -> Shard | None:
    """Return one of the k shards of a single vector."""
    return _nth(as_rows([unwrap(vector)]), index, k)


def join(parts: Sequence[Shard | None]) -> Shard | None:
    """Stack shards of the same columns.

    Raises
    ------
    ValueError
        If they belong to vectors of different shapes.
    """
    first = parts[0]
    for number, part in enumerate(parts):
        shapes = [None if one is None else one.template.shape for one in (first, part)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"All vectors must have the same shape; vector 0 has shape {shapes[0]}, vector {number} has "
                f"shape {shapes[1]}. Flatten or pad them to one shape."
            )
    if first is None:
        return None
    return replace(first, slices=tuple(one for part in parts if part is not None for one in part.slices))


def measure(op: RowOperator, shard: Shard | None) -> Counted | None:
    """Return the statistics of one shard."""
    if shard is None:
        return None
    op.check(len(shard.slices))
    return measure_shard(op, shard.arrays, shard.span, shard.d), len(shard.slices)


def merge(parts: Sequence[Counted | None]) -> Counted | None:
    """Join the statistics of several shards."""
    found = [part for part in parts if part is not None]
    return (Tree.merge([tree for tree, _ in found]), found[0][1]) if found else None


def solve(op: RowOperator, counted: Counted) -> Any:
    """Return the plan from the statistics of all shards."""
    return solve_tree(op, *counted)


def plan_ahead(op: RowOperator, shard: Shard) -> Any:
    """Return the plan of a rule that measures nothing, from the number of rows in any one shard."""
    op.check(len(shard.slices))
    return op.solve({}, len(shard.slices))


def apply(op: RowOperator, shard: Shard | None, plan: Any = None) -> Shard | None:
    """Return the same columns of the answer."""
    if shard is None:
        return None
    if not op.measures:
        op.check(len(shard.slices))
    block = apply_shard(op, shard.arrays, shard.span, shard.d, plan)
    flat = replace(shard.template, shape=(-1,))
    answer = tuple(wrap(flat.restore(block[i, :])) for i in range(block.shape[0]))
    return Shard(answer, shard.span, shard.template)


def gather(op: RowOperator, parts: Sequence[Shard | None]) -> Any:
    """Put the shards of an answer together, as the value that the operator returns."""
    found = [part for part in parts if part is not None]
    columns = list(zip(*(part.arrays for part in found), strict=True))
    return plain(op.finish([_joined(pieces, found[0].template.shape) for pieces in columns]))


def run_chain(links: Sequence[Link], value: Any) -> Any:
    """Run operators one after another in this task."""
    value = unwrap(value)
    for op, argument in links:
        value = op.compute({argument: value}, context=OpContext(op.name))
    return plain(value)


def run_chain_planned(links: Sequence[Link], value: Any) -> tuple[Any, Any]:
    """Run operators as `run_chain` does; return the answer, and the plan of the last one."""
    *before, (op, argument) = links
    plans: dict[str, Any] = {}
    value = unwrap(run_chain(before, value))
    answer = op.compute({argument: value}, context=OpContext(op.name, plans=plans))
    return (wrap(answer) if not isinstance(answer, list) else plain(answer)), plans.get(op.name)


def plain(value: Any) -> Any:
    """Leave arrays as they are where Dask can carry them: all but torch's short floats and device tensors."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, torch.Tensor) and (value.device.type != "cpu" or value.dtype not in _CARRIED):
        return wrap(value)
    return value


def _nth(rows: Rows, index: int, k: int) -> Shard | None:
    spans = shards(rows.d, k, rows.grid)
    if index >= len(spans):
        return None
    lo, hi = spans[index]
    return Shard(tuple(wrap(vector[lo:hi]) for vector in rows.vectors), spans[index], rows.template)


def _joined(pieces: Sequence[Array], shape: tuple[int, ...]) -> Array:
    xp = array_api_compat.array_namespace(pieces[0])
    whole = pieces[0] if len(pieces) == 1 else xp.concat(list(pieces), axis=0)
    return xp.reshape(whole, shape)


def _sizeof(shard: Shard) -> int:
    return sum(sizeof(part) for part in shard.slices)


def _serialize(shard: Shard) -> tuple[dict[str, Any], list[Any]]:
    if not all(isinstance(part, Vec) for part in shard.slices):
        raise NotImplementedError("only arrays that travel as Vec have frames of their own")
    packed = [pack(part.array) for part in shard.slices]
    rest = pickle.dumps((shard.span, shard.template))
    return {"rows": [list(header) for header, _ in packed], "rest": rest}, [frame.data for _, frame in packed]


def _deserialize(header: dict[str, Any], frames: list[Any]) -> Shard:
    span, template = pickle.loads(header["rest"])
    rows = [(name, dtype, tuple(shape), *more) for name, dtype, shape, *more in header["rows"]]
    slices = tuple(Vec(unpack(row, frame)) for row, frame in zip(rows, frames, strict=True))
    return Shard(slices, span, template)


sizeof.register(Shard, _sizeof)
dask_serialize.register(Shard, _serialize)
dask_deserialize.register(Shard, _deserialize)
