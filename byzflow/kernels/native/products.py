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

from byzflow.kernels.native.addresses import addresses_of, gather, pointer, squared_norm
from byzflow.kernels.native.loops import loop
from byzflow.kernels.native.sorting import address_of
from byzflow.kernels.native.vectors import LINE

__all__ = ("set_zero_apart", "write_centred_products", "write_cross_products", "write_products")

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
        _add_tiles(tile, m, tile, m, part, True, gram)
    _mirror(gram)


@loop()
def write_cross_products(A: Any, B: Any, out: Any) -> None:
    """Write ``A Bᵀ`` into `out`; rows of both are contiguous, and of one dtype."""
    m, k, columns = A.shape[0], B.shape[0], _LENGTH // A.itemsize
    ours, theirs = addresses_of(A), addresses_of(B)
    tile, other = _new_tile(m, A), _new_tile(k, B)
    out[:, :] = 0.0
    for at in range(0, A.shape[1], columns):
        part = min(columns, A.shape[1] - at)
        gather(ours, at, tile[:, :part])
        gather(theirs, at, other[:, :part])
        _add_tiles(tile, m, other, k, part, False, out)


@loop()
def write_centred_products(
    addresses: Any, start: Any, width: Any, like: Any, chosen: Any, norms: Any, gram: Any
) -> None:
    """Do what `write_products` does for rows less the `chosen` one; write squared norms of the first, too.

    Those are of the rows as they are. If `gram` has one point more than there are rows, that is the zero,
    moved with them. It is multiplied in the place of the chosen row, which is the origin now: one row more
    than is multiplied at once costs a tenth.
    """
    m, columns = addresses.shape[0], _LENGTH // like.itemsize
    with_zero = gram.shape[0] > m
    tile = _new_tile(m, like)
    gram[:, :] = 0.0
    norms[:] = 0.0
    for at in range(0, width, columns):
        part = min(columns, width - at)
        _fill_centred(addresses, (start + at) * like.itemsize, part, chosen, with_zero, tile, norms)
        _add_tiles(tile, m, tile, m, part, True, gram)
    _mirror(gram)
    if with_zero:
        set_zero_apart(gram, chosen)


@loop()
def set_zero_apart(gram: Any, chosen: Any) -> None:
    """Make the point that was multiplied in the place of the `chosen` row the last one; that row is at 0."""
    last = gram.shape[0] - 1
    for i in range(last):
        gram[i, last] = gram[last, i] = 0.0 if i == chosen else gram[i, chosen]
    gram[last, last] = gram[chosen, chosen]
    for i in range(last):
        gram[i, chosen] = gram[chosen, i] = 0.0


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
    addresses: Any, offset: Any, width: Any, chosen: Any, with_zero: Any, tile: Any, norms: Any
) -> None:
    """Copy columns of rows to a tile, less the chosen row, from so many bytes behind their addresses on.

    Add to the norms of rows as they were. The chosen row becomes zero, or the moved zero in its place.
    """
    near = carray(pointer(addresses[chosen] + np.uintp(offset), tile), width)
    for i in range(addresses.shape[0]):
        source = carray(pointer(addresses[i] + np.uintp(offset), tile), width)
        if i < norms.shape[0]:
            norms[i] += squared_norm(source)
        row = tile[i]
        for c in range(width):
            row[c] = source[c] - near[c]
    if with_zero:
        row = tile[chosen]
        for c in range(width):
            row[c] = -near[c]


@loop()
def _mirror(gram: Any) -> None:
    for i in range(gram.shape[0]):
        for j in range(i):
            gram[j, i] = gram[i, j]


@loop()
def _add_tiles(tile: Any, m: Any, other: Any, k: Any, width: Any, half: Any, out: Any) -> None:
    """Add products of so many columns of m rows of a tile and k of another to `out`, or its lower half."""
    lanes = LINE // tile.itemsize
    whole = -(-width // lanes) * lanes
    if whole > width:
        _clear_columns(tile, m, width, whole)
        _clear_columns(other, k, width, whole)
    length = whole * tile.itemsize
    base, across, sums = address_of(tile), address_of(other), np.empty((_DOWN, _ACROSS))
    for panel in range(0, k, _PANEL):
        for i in range(panel if half else 0, m, _DOWN):
            for j in range(panel, min(panel + _PANEL, i + _DOWN if half else k, k), _ACROSS):
                _multiply(base + i * _LENGTH, across + j * _LENGTH, length, address_of(sums), tile)
                for y in range(min(_DOWN, m - i)):
                    for x in range(min(_ACROSS, k - j)):
                        out[i + y, j + x] += sums[y, x]


@loop()
def _clear_columns(tile: Any, m: Any, first: Any, last: Any) -> None:
    for i in range(m):
        for c in range(first, last):
            tile[i, c] = 0.0
