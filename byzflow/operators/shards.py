"""What is done with one column shard of the rows, for any rule, and how the results are put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np

from byzflow.kernels import native
from byzflow.kernels.blocks import Span, Tree, blocks
from byzflow.kernels.intake import as_rows
from byzflow.kernels.rows import Array, Rows
from byzflow.kernels.template import Template
from byzflow.kernels.threads import one_thread

if TYPE_CHECKING:
    from byzflow.operators.rows import RowOperator

__all__ = (
    "all_finite",
    "apply_blocks",
    "apply_shard",
    "assemble",
    "joined",
    "measure_blocks",
    "measure_shard",
    "solve_tree",
    "stack_shard",
)


def measure_shard(op: RowOperator, slices: Any, span: Span, d: int) -> Tree:
    """Return the statistics of columns `span` of d, whose rows are `slices`; `span` starts a block.

    Runs on the calling thread alone.
    """
    with one_thread():
        return measure_blocks(op, as_rows(slices).at(span.lo, d), span)


def stack_shard(op: RowOperator, slices: Any, span: Span, d: int) -> Array:
    """Return the columns `span` of d, no more than a block, as one array in the dtype that is computed in."""
    block = as_rows(slices).at(span.lo, d).read(span)
    return block.copy() if isinstance(block, np.ndarray) else block


def solve_tree(op: RowOperator, tree: Tree, n: int) -> Any:
    """Return the plan from the statistics of all columns, for n input rows."""
    return op.solve(tree.root(), n)


def apply_shard(op: RowOperator, slices: Any, span: Span, d: int, plan: Any = None) -> Array:
    """Return columns `span` of the d of the answer, ``(height, w)``, in the dtype that is computed in.

    Runs on the calling thread alone.
    """
    rows = as_rows(slices).at(span.lo, d)
    out = rows.like(op.height(plan, rows.n - op.extra), rows.d)
    with one_thread():
        apply_blocks(op, rows, plan, span, out)
    return out


def assemble(pieces: Sequence[Array], template: Template) -> list[Array]:
    """Join the column shards of an answer and give its rows the template's library, dtype and shape."""
    return template.restore_rows(joined(pieces))


def measure_blocks(op: RowOperator, rows: Rows, span: Span) -> Tree:
    """Return the statistics of the blocks of `span`, on this thread as it is."""
    spans = blocks(span, rows.width)
    return Tree.over((part.lo // rows.width, op.measure(rows, part)) for part in spans)


def apply_blocks(op: RowOperator, rows: Rows, plan: Any, span: Span, out: Array) -> None:
    """Write columns `span` into `out`, which has all columns of these rows, on this thread as it is."""
    shift = rows.offset
    for part in (span,) if op.in_place(rows, plan) else blocks(span, rows.width):
        op.emit(rows, plan, part, out[:, part.lo - shift : part.hi - shift])


def joined(pieces: Sequence[Array]) -> Array:
    """Return arrays of the same number of rows side by side."""
    if len(pieces) == 1:
        return pieces[0]
    if isinstance(pieces[0], np.ndarray):
        return np.concatenate(pieces, axis=1)
    return array_api_compat.array_namespace(pieces[0]).concat(list(pieces), axis=1)


def all_finite(out: Array) -> bool:
    """Whether no number of an array of any library is NaN or infinite."""
    if isinstance(out, np.ndarray):
        return bool(native.is_finite(out))
    xp = array_api_compat.array_namespace(out)
    return bool(xp.all(xp.isfinite(out)))
