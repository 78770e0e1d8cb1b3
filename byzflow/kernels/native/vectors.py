"""Vectors that code holds in registers, and the whole numbers that stand for numbers in a sort.

*Keys* are in the order of the numbers they stand for, with -0 before +0, and NaN of either sign after +inf.
NaN needs no care then, and of float32 some processors compare twice as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.binding
from llvmlite import ir

__all__ = ("LINE", "Vectors")

LINE = 64 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 32
"""What a vector holds [bytes]."""


class Vectors:
    """What code in the making does with vectors of bits, each as wide as the numbers of the array `like`."""

    def __init__(self, context: Any, builder: Any, like: Any, width: int = LINE) -> None:
        self.builder, self.size = builder, context.get_abi_sizeof(context.get_value_type(like.dtype))
        self.kind = ir.VectorType(ir.IntType(8 * self.size), width // self.size)
        self.nans = self.all((1 << (52 if self.size == 8 else 23)) - 1)  # how many NaN have one sign

    def all(self, value: int) -> Any:
        """Return a vector of one constant."""
        return ir.Constant(self.kind, [value] * self.kind.count)

    def at(self, address: Any, offset: int = 0) -> Any:
        """Return a pointer to the vector so many bytes behind an address."""
        place = self.builder.add(address, ir.Constant(address.type, offset))
        return self.builder.inttoptr(place, self.kind.as_pointer())

    def load(self, place: Any, align: int = LINE) -> Any:
        """Read a vector."""
        value = self.builder.load(place)
        value.align = align
        return value

    def store(self, value: Any, place: Any) -> None:
        """Write a vector."""
        self.builder.store(value, place).align = LINE

    def prefetch(self, address: Any, offset: int) -> None:
        """Ask for what lies so many bytes behind an address; it need not be there."""
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = self.builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        place = self.builder.bitcast(self.at(address, offset), byte)
        self.builder.call(function, [place, flag(0), flag(2), flag(1)])  # to be read, often; it is no code

    def key(self, number: Any) -> Any:
        """Return the keys of numbers. Negative NaN, the least whole numbers, wrap round to the greatest."""
        return self.builder.sub(self._turned(number), self.nans)

    def number(self, key: Any) -> Any:
        """Return the numbers that keys stand for."""
        return self._turned(self.builder.add(key, self.nans))

    def _turned(self, value: Any) -> Any:
        """Reverse the order of the negative ones: of sign and magnitude come whole numbers, and back."""
        sign = self.builder.ashr(value, self.all(8 * self.size - 1))
        return self.builder.xor(value, self.builder.and_(sign, self.all((1 << (8 * self.size - 1)) - 1)))

    def exchange(self, values: list[Any], pairs: Sequence[tuple[int, int]]) -> None:
        """Put the lesser of two keys in the first place of each pair, and the greater in the second."""
        for low, high in pairs:
            a, b = values[low], values[high]
            less = self.builder.icmp_signed("<", b, a)
            values[low], values[high] = self.builder.select(less, b, a), self.builder.select(less, a, b)
