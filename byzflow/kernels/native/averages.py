"""Means of some of the rows of a sorted tile, for a vector of columns at a time: all sums are in registers.

Sums are float64, from the lowest value to the highest of those that are in every window, then the others.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from byzflow.kernels.native.registers import STRIDE
from byzflow.kernels.native.vectors import LINE, Vectors

__all__ = ("WIDE", "mean_around", "mean_of_ranks")

WIDE = 2 * LINE
"""What a mean takes at once of each row [bytes]: while one addition waits for the last, others go on."""


class _Columns:
    """A vector of columns of a sorted tile, read as float64."""

    def __init__(self, vectors: Vectors, place: Any) -> None:
        self.vectors, self.builder, self.place = vectors, vectors.builder, place
        self.kind = ir.VectorType(ir.DoubleType(), vectors.kind.count)

    def zeros(self) -> Any:
        """Return a variable."""
        variable = cgutils.alloca_once(self.builder, self.kind)
        self.builder.store(ir.Constant(self.kind, [0.0] * self.kind.count), variable)
        return variable

    def row(self, i: Any) -> Any:
        place = self.builder.add(self.place, self.builder.mul(i, ir.Constant(i.type, STRIDE)))
        number = self.vectors.number(self.vectors.load(self.vectors.at(place)))
        if self.vectors.size == 8:
            return self.builder.bitcast(number, self.kind)
        floats = ir.VectorType(ir.FloatType(), self.kind.count)
        return self.builder.fpext(self.builder.bitcast(number, floats), self.kind)

    def all(self, value: Any) -> Any:
        """Return a whole number in each column."""
        number = self.builder.sitofp(value, self.kind.element)
        one = self.builder.insert_element(ir.Constant(self.kind, ir.Undefined), number, ir.IntType(32)(0))
        nowhere = ir.Constant(ir.VectorType(ir.IntType(32), self.kind.count), [0] * self.kind.count)
        return self.builder.shuffle_vector(one, one, nowhere)

    def add(self, total: Any, first: Any, last: Any, inside: Any = None) -> None:
        """Add rows ``first : last`` to a variable, each where `inside` of its number says so."""
        with cgutils.for_range(self.builder, last, start=first) as loop:
            value = self.row(loop.index)
            if inside is not None:
                value = self.builder.select(
                    inside(loop.index), value, ir.Constant(self.kind, [0.0] * self.kind.count)
                )
            self.builder.store(self.builder.fadd(self.builder.load(total), value), total)

    def over(self, total: Any, count: Any) -> Any:
        """Return a variable times the inverse of a count."""
        one = ir.Constant(self.kind, [1.0] * self.kind.count)
        return self.builder.fmul(self.builder.load(total), self.builder.fdiv(one, self.all(count)))

    def write(self, value: Any, target: Any) -> None:
        if self.vectors.size == 4:
            value = self.builder.fptrunc(value, ir.VectorType(ir.FloatType(), self.kind.count))
        self.vectors.store(self.builder.bitcast(value, self.vectors.kind), self.vectors.at(target))


@intrinsic
def mean_of_ranks(typingctx: Any, place: Any, first: Any, last: Any, target: Any, like: Any) -> Any:
    """Write the mean of rows ``first : last``, of those from `place` on, as numbers."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place, first, last, target = args[:4]
        columns = _Columns(Vectors(context, builder, like, WIDE), place)
        total = columns.zeros()
        columns.add(total, first, last)
        columns.write(columns.over(total, builder.sub(last, first)), target)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4, like), codegen


@intrinsic
def mean_around(typingctx: Any, place: Any, span: Any, n: Any, keep: Any, target: Any, like: Any) -> Any:
    """Write the mean of the `keep` values nearest that of rows ``span[0] : span[1]``; ties keep the lower.

    In a sorted column they are a window; it starts at the lowest k for which the value that would leave on
    the left is no farther than the one that would come in on the right. That is decided in float64: rounding
    the centre could swap two of them.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place, span, n, keep, target = args[:5]
        columns = _Columns(Vectors(context, builder, like, WIDE), place)
        zero, one = ir.Constant(n.type, 0), ir.Constant(n.type, 1)
        total, start = columns.zeros(), columns.zeros()
        first, last = (builder.extract_value(span, i) for i in range(2))
        columns.add(total, first, last)
        centre = columns.over(total, builder.sub(last, first))
        dropped = builder.sub(n, keep)
        with cgutils.for_range(builder, dropped) as loop:
            k = loop.index
            left, right = columns.row(k), columns.row(builder.add(k, keep))
            nearer = builder.fcmp_ordered(">", builder.fsub(centre, left), builder.fsub(right, centre))
            here = builder.load(start)
            moves = builder.and_(builder.fcmp_ordered("==", here, columns.all(k)), nearer)
            builder.store(builder.select(moves, columns.all(builder.add(k, one)), here), start)
        low = builder.load(start)
        high = builder.fadd(low, columns.all(keep))

        def inside(i: Any) -> Any:
            at = columns.all(i)
            return builder.and_(builder.fcmp_ordered("<=", low, at), builder.fcmp_ordered("<", at, high))

        certain = builder.select(builder.icmp_signed("<", dropped, keep), dropped, keep)
        begins, ends = builder.icmp_signed("==", first, certain), builder.icmp_signed("==", last, keep)
        with builder.if_then(builder.not_(builder.and_(begins, ends))):  # else they are summed already
            builder.store(ir.Constant(columns.kind, [0.0] * columns.kind.count), total)
            columns.add(total, certain, keep)
        columns.add(total, zero, certain, inside)
        columns.add(total, keep, n, inside)
        columns.write(columns.over(total, keep), target)
        return context.get_dummy_value()

    return types.void(types.int64, types.UniTuple(types.int64, 2), *[types.int64] * 3, like), codegen
