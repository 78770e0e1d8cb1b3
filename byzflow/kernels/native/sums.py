"""A weighted sum of rows that stays in registers until it is done, as no loop over columns can ask for."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from byzflow.kernels.native.vectors import LINE

__all__ = ("ROOM", "sum_of_rows")

ROOM = 4 * LINE // 8
"""Columns of float64 that are summed at a time: with two sums of each, half of what registers hold."""


@intrinsic
def sum_of_rows(typingctx: Any, x: Any, A: Any, start: Any, out: Any) -> Any:
    """Write ``x A`` over columns ``start : start + ROOM`` into the same ones of `out`; all rows contiguous.

    Even rows are added to even ones, and odd to odd: an addition need not wait for the last.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        weights, rows, answer = (
            context.make_array(signature.args[k])(context, builder, args[k]) for k in (0, 1, 3)
        )
        first = builder.ptrtoint(builder.gep(rows.data, [args[2]]), args[2].type)
        stride, count = (builder.extract_value(field, 0) for field in (rows.strides, rows.shape))
        kind, one = ir.VectorType(ir.DoubleType(), ROOM), count.type(1)
        zeros = ir.Constant(kind, [0.0] * ROOM)
        nowhere = ir.Constant(ir.VectorType(ir.IntType(32), ROOM), [0] * ROOM)
        totals = [cgutils.alloca_once_value(builder, zeros) for _ in range(2)]

        def add(j: Any, total: Any) -> None:
            weight = builder.load(builder.gep(weights.data, [j]))
            weight = builder.insert_element(zeros, weight, nowhere.type.element(0))
            place = builder.add(first, builder.mul(j, stride))
            row = builder.load(builder.inttoptr(place, kind.as_pointer()))
            row.align = 8
            part = builder.fmul(builder.shuffle_vector(weight, weight, nowhere), row, flags=("contract",))
            builder.store(builder.fadd(builder.load(total), part, flags=("contract",)), total)

        with cgutils.for_range(builder, builder.lshr(count, one)) as loop:
            even = builder.shl(loop.index, one)
            add(even, totals[0])
            add(builder.add(even, one), totals[1])
        with builder.if_then(builder.trunc(count, ir.IntType(1))):
            add(builder.sub(count, one), totals[0])
        place = builder.bitcast(builder.gep(answer.data, [args[2]]), kind.as_pointer())
        builder.store(builder.fadd(*map(builder.load, totals)), place).align = 8
        return context.get_dummy_value()

    return types.void(x, A, types.int64, out), codegen
