"""Inner products of rows, in registers until a tile of columns is done, as no loop over columns can ask for.

Half of a symmetric matrix is enough, in vectors as wide as the processor has them: BLAS works out all of it,
and not every BLAS knows every processor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from byzflow.kernels.native.addresses import FAST, gather, pointer, squared_norm
from byzflow.kernels.native.loops import loop
from byzflow.kernels.native.sorting import address_of
from byzflow.kernels.native.vectors import LINE

__all__ = ("write_centred_products", "write_products")

_DOWN, _ACROSS = 4, 4 if LINE == 64 else 2
"""How many rows are multiplied with how many others at once: their sums fill half of the registers."""

_LENGTH = 4096
"""What a tile holds of each row: so much of eight rows fits the nearest cache [bytes]."""

_PANEL = 64
"""Rows of a tile that fit the second cache, while all others go by."""


def _totals(builder: Any, vectors: list[Any]) -> Any:
    """Return a vector of the sums of as many vectors as it has numbers; neighbours are added first."""
    size = len(vectors)
    places = ir.VectorType(ir.IntType(32), size)
    even, odd = (ir.Constant(places, list(range(k, 2 * size, 2))) for k in range(2))

    def added(a: Any, b: Any) -> Any:
        return builder.fadd(builder.shuffle_vector(a, b, even), builder.shuffle_vector(a, b, odd))

    while len(vectors) > 1:
        vectors = list(map(added, vectors[::2], vectors[1::2]))
    return vectors[0]


@intrinsic
def _multiply(typingctx: Any, rows: Any, others: Any, length: Any, out: Any, like: Any) -> Any:
    """Write the products of `_DOWN` rows of a tile with `_ACROSS` others as float64 at the address `out`.

    Rows are given by addresses; `length` bytes of each are read, a multiple of `LINE`.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, others, length, out = args[:4]
        element = context.get_value_type(like.dtype)
        kind = ir.VectorType(element, LINE // context.get_abi_sizeof(element))
        zeros = ir.Constant(kind, [0.0] * kind.count)
        sums = [cgutils.alloca_once_value(builder, zeros) for _ in range(_DOWN * _ACROSS)]

        def load(first: Any, at: Any, i: int) -> Any:
            place = builder.add(builder.add(first, at), ir.Constant(first.type, i * _LENGTH))
            value = builder.load(builder.inttoptr(place, kind.as_pointer()))
            value.align = LINE
            return value

        with cgutils.for_range(builder, builder.udiv(length, length.type(LINE))) as step:
            at = builder.mul(step.index, length.type(LINE))
            across = [load(others, at, j) for j in range(_ACROSS)]
            for i in range(_DOWN):
                row = load(rows, at, i)
                for j, other in enumerate(across):
                    total = sums[i * _ACROSS + j]
                    part = builder.fmul(row, other, flags=("contract",))
                    builder.store(builder.fadd(builder.load(total), part, flags=("contract",)), total)
        wide = ir.VectorType(ir.DoubleType(), kind.count)
        for k in range(0, len(sums), kind.count):
            total = _totals(builder, [builder.load(x) for x in sums[k : k + kind.count]])
            total = total if total.type == wide else builder.fpext(total, wide)
            place = builder.inttoptr(builder.add(out, out.type(8 * k)), wide.as_pointer())
            builder.store(total, place).align = 8
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4, like), codegen


@loop()
def write_products(addresses: Any, start: Any, width: Any, like: Any, gram: Any) -> None:
    """Write the inner products of columns ``start : start + width`` of rows where they lie into `gram`.

    Products and their sums over a tile of columns are of the rows' dtype, that of the array `like`.
    """
    m, columns = addresses.shape[0], _LENGTH // like.itemsize
    tile = _new_tile(m, like)
    gram[:, :] = 0.0
    for at in range(0, width, columns):
        part = min(columns, width - at)
        gather(addresses, start + at, tile[:, :part])
        _add_tile(tile, m, part, gram)
    _mirror(gram)


@loop()
def write_centred_products(
    addresses: Any, start: Any, width: Any, like: Any, chosen: Any, norms: Any, to_zero: Any, gram: Any
) -> None:
    """Do what `write_products` does for rows less the `chosen` one; write squared norms of the first, too.

    Those are of the rows as they are. `to_zero`, if it is not empty, receives the product of every moved row
    with the moved zero, and last the latter's squared norm.
    """
    m, columns = addresses.shape[0], _LENGTH // like.itemsize
    tile = _new_tile(m, like)
    gram[:, :] = 0.0
    norms[:] = 0.0
    to_zero[:] = 0.0
    for at in range(0, width, columns):
        part = min(columns, width - at)
        _fill_centred(addresses, (start + at) * like.itemsize, part, chosen, tile, norms, to_zero)
        _add_tile(tile, m, part, gram)
    if to_zero.shape[0] > 0:
        to_zero[m] = norms[chosen]
    _mirror(gram)


@loop()
def _new_tile(m: Any, like: Any) -> Any:
    """Return zeros for the columns of m rows and a few more, at whole cache lines."""
    columns = _LENGTH // like.itemsize
    rows = -(-m // _DOWN) * _DOWN
    whole = np.empty(rows * columns + 64 // like.itemsize, like.dtype)
    first = -(address_of(whole) // like.itemsize) % (64 // like.itemsize)
    tile = whole[first : first + rows * columns].reshape(rows, columns)
    for i in range(m, rows):
        tile[i, :] = 0.0
    return tile


@loop()
def _fill_centred(
    addresses: Any, offset: Any, width: Any, chosen: Any, tile: Any, norms: Any, to_zero: Any
) -> None:
    """Copy columns of rows to a tile, less the chosen row, from so many bytes behind their addresses on.

    Add to the norms of rows as they were, and to the products of moved rows with that one.
    """
    near = carray(pointer(addresses[chosen] + np.uintp(offset), tile), width)
    for i in range(addresses.shape[0]):
        source = carray(pointer(addresses[i] + np.uintp(offset), tile), width)
        if i < norms.shape[0]:
            norms[i] += squared_norm(source)
        row = tile[i]
        for c in range(width):
            row[c] = source[c] - near[c]
        if to_zero.shape[0] > 0:
            to_zero[i] -= _dot(row, near)


@loop(fastmath=FAST)
def _dot(a: Any, b: Any) -> float:
    """Return the inner product, of float64, of a row with the beginning of another."""
    total = 0.0
    for c in range(b.shape[0]):
        total += np.float64(a[c]) * np.float64(b[c])
    return total


@loop()
def _mirror(gram: Any) -> None:
    for i in range(gram.shape[0]):
        for j in range(i):
            gram[j, i] = gram[i, j]


@loop()
def _add_tile(tile: Any, m: Any, width: Any, gram: Any) -> None:
    """Add the products of so many columns of m rows of a tile to the lower half of `gram`."""
    base, lanes = address_of(tile), LINE // tile.itemsize
    whole = -(-width // lanes) * lanes
    for i in range(m if whole > width else 0):
        tile[i, width:whole] = 0.0
    length = whole * tile.itemsize
    sums = np.empty((_DOWN, _ACROSS))
    for panel in range(0, m, _PANEL):
        for i in range(panel, m, _DOWN):
            for j in range(panel, min(panel + _PANEL, i + _DOWN, m), _ACROSS):
                _multiply(base + i * _LENGTH, base + j * _LENGTH, length, address_of(sums), tile)
                for y in range(min(_DOWN, m - i)):
                    for x in range(min(_ACROSS, m - j)):
                        gram[i + y, j + x] += sums[y, x]
