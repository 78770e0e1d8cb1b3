"""Loops over rows given as addresses: n vectors are read once, wherever they lie, without being stacked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from byzflow.kernels.native.loops import loop

__all__ = (
    "FAST",
    "TILE",
    "addresses_of",
    "combine",
    "gather",
    "part_of",
    "pointer",
    "squared_norm",
    "squared_norms_at",
    "taken",
)

FAST = {"reassoc", "contract", "nsz"}
"""How loops may be compiled that only add up."""

TILE = 1024
"""Columns that a loop takes at once, so that what it reads and writes stays in the cache."""

_LONG = 16 * TILE
"""The same where more than `_FEW` rows are added up: memory is slow to begin with each piece of a row."""

_FEW = 8


@intrinsic
def pointer(typingctx: Any, address: Any, like: Any) -> Any:
    """Turn an integer address into a pointer to the element type of the array `like`."""
    kind = types.CPointer(like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return kind(types.uintp, like), codegen


@loop()
def part_of(block: Any, i: Any, start: Any, end: Any) -> Any:
    """Return columns ``start : end`` of row `i` of a block whose rows are contiguous, as a contiguous array.

    A slice of a block that is part of a wider one would not be known to be contiguous: loops over it are not
    vectorised, and take five times as long.
    """
    offset = i * block.strides[0] + start * block.itemsize
    return carray(pointer(np.uintp(block.ctypes.data + offset), block), end - start)


@loop()
def addresses_of(block: Any) -> Any:
    """Return the address of every row of a block."""
    out = np.empty(block.shape[0], np.uintp)
    for i in range(block.shape[0]):
        out[i] = block.ctypes.data + i * block.strides[0]
    return out


@loop()
def gather(addresses: Any, start: Any, out: Any) -> None:
    """Copy columns ``start : start + out.shape[1]`` of every row into `out`, an (n, w) block."""
    width = out.shape[1]
    shift = np.uintp(start * out.itemsize)
    for i in range(addresses.shape[0]):
        source = carray(pointer(addresses[i] + shift, out), width)
        target = part_of(out, i, 0, width)
        for c in range(width):
            target[c] = source[c]


@loop(fastmath={"contract"})  # sums are written as they grow: their order must stay
def combine(addresses: Any, first: Any, index: Any, weights: Any, start: Any, base: Any, out: Any) -> None:
    """Write W X over ``start : start + out.shape[1]`` into `out`, with W in compressed sparse rows.

    `base`, if it is not None, is added to each row of the answer. Rows are added four at a time, after the
    first few that this does not take.
    """
    shift = start * out.itemsize
    for j in range(out.shape[0]):
        step = _LONG if first[j + 1] - first[j] > _FEW else TILE
        for tile in range(0, out.shape[1], step):
            width = min(step, out.shape[1] - tile)
            total = part_of(out, j, tile, tile + width)
            offset = np.uintp(shift + tile * out.itemsize)
            k, last = first[j], first[j + 1]
            if base is not None:
                for c in range(width):
                    total[c] = base[tile + c]
            elif (last - k) % 4:
                a = carray(pointer(addresses[index[k]] + offset, out), width)
                wa = weights[k]
                for c in range(width):
                    total[c] = wa * a[c]
                k += 1
            else:
                for c in range(width):
                    total[c] = 0
            while (last - k) % 4:
                a = carray(pointer(addresses[index[k]] + offset, out), width)
                wa = weights[k]
                for c in range(width):
                    total[c] += wa * a[c]
                k += 1
            while k < last:
                a = carray(pointer(addresses[index[k]] + offset, out), width)
                b = carray(pointer(addresses[index[k + 1]] + offset, out), width)
                e = carray(pointer(addresses[index[k + 2]] + offset, out), width)
                g = carray(pointer(addresses[index[k + 3]] + offset, out), width)
                wa, wb, we, wg = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
                for c in range(width):
                    total[c] += wa * a[c] + wb * b[c] + we * e[c] + wg * g[c]
                k += 4


@loop(fastmath=FAST)
def squared_norm(row: Any) -> Any:
    """Return the squared norm of a contiguous row (float64; inf or NaN if a value is)."""
    total = 0.0
    for c in range(row.shape[0]):
        value = np.float64(row[c])
        total += value * value
    return total


@loop()
def taken(source: Any, target: Any, width: Any, like: Any) -> Any:
    """Copy a row of `like`'s dtype from one address to another; return its squared norm."""
    row, copy = carray(pointer(source, like), width), carray(pointer(target, like), width)
    for c in range(width):
        copy[c] = row[c]
    return squared_norm(copy)


@loop(fastmath=FAST)
def squared_norms_at(addresses: Any, start: Any, width: Any, like: Any, out: Any) -> None:
    """Write the squared norms of ``start : start + width`` of every row, of `like`'s dtype, into `out`."""
    shift = np.uintp(start * like.itemsize)
    for i in range(addresses.shape[0]):
        out[i] = squared_norm(carray(pointer(addresses[i] + shift, like), width))
