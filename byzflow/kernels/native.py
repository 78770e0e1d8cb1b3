"""Compiled loops over column blocks in host memory; no rule, no array library, no threads of their own.

Rows are given as addresses, so that n vectors lying anywhere in memory are read once, in place, without
being stacked. Every loop over columns is element-wise, hence the bits do not depend on where a block is cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

__all__ = (
    "accept_gram",
    "centre_rows",
    "combine",
    "compare_exchange",
    "gather",
    "insert_point",
    "keeps_digits",
    "marked_norms",
    "mean_around",
    "mean_std",
    "pick_centre",
    "row_mean",
    "squared_norms",
    "squared_norms_at",
)

_FAST = {"reassoc", "contract", "nsz"}
_TILE = 1024


@intrinsic
def _pointer(typingctx: Any, address: Any, like: Any) -> Any:
    """Turn an integer address into a pointer to the element type of the array `like`."""
    kind = types.CPointer(like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return kind(types.uintp, like), codegen


@njit(nogil=True, cache=True)
def gather(addresses: Any, start: Any, out: Any) -> None:
    """Copy columns ``start : start + out.shape[1]`` of every row into `out`, an (n, w) block."""
    width = out.shape[1]
    shift = np.uintp(start * out.itemsize)
    for i in range(addresses.shape[0]):
        source = carray(_pointer(addresses[i] + shift, out), width)
        target = out[i]
        for c in range(width):
            target[c] = source[c]


@njit(nogil=True, cache=True, fastmath={"contract"})  # sums are written as they grow: their order must stay
def combine(addresses: Any, first: Any, index: Any, weights: Any, start: Any, out: Any) -> None:
    """Write W X over ``start : start + out.shape[1]`` into `out`, with W in compressed sparse rows."""
    shift = start * out.itemsize
    for j in range(out.shape[0]):
        for tile in range(0, out.shape[1], _TILE):
            width = min(_TILE, out.shape[1] - tile)
            total = out[j, tile : tile + width]
            for c in range(width):
                total[c] = 0
            offset = np.uintp(shift + tile * out.itemsize)
            k, last = first[j], first[j + 1]
            while k + 4 <= last:
                a = carray(_pointer(addresses[index[k]] + offset, out), width)
                b = carray(_pointer(addresses[index[k + 1]] + offset, out), width)
                e = carray(_pointer(addresses[index[k + 2]] + offset, out), width)
                g = carray(_pointer(addresses[index[k + 3]] + offset, out), width)
                wa, wb, we, wg = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
                for c in range(width):
                    total[c] += wa * a[c] + wb * b[c] + we * e[c] + wg * g[c]
                k += 4
            while k < last:
                a = carray(_pointer(addresses[index[k]] + offset, out), width)
                wa = weights[k]
                for c in range(width):
                    total[c] += wa * a[c]
                k += 1


@njit(nogil=True, cache=True)
def compare_exchange(block: Any, network: Any) -> None:
    """Run a sorting network down the columns of `block` in place; NaN sorts after +inf."""
    columns = block.shape[1]
    for tile in range(0, columns, _TILE):
        width = min(_TILE, columns - tile)
        for k in range(network.shape[0]):
            low = block[network[k, 0], tile : tile + width]
            high = block[network[k, 1], tile : tile + width]
            for c in range(width):
                a = low[c]
                b = high[c]
                swap = (b < a) | (a != a)
                low[c] = b if swap else a
                high[c] = a if swap else b


@njit(nogil=True, cache=True, fastmath=_FAST)
def squared_norms(block: Any, out: Any) -> None:
    """Write the squared norm of every row of `block` into `out` (float64; inf or NaN if a value is)."""
    for i in range(block.shape[0]):
        row = block[i]
        total = 0.0
        for c in range(row.shape[0]):
            value = np.float64(row[c])
            total += value * value
        out[i] = total


@njit(nogil=True, cache=True, fastmath=_FAST)
def squared_norms_at(addresses: Any, start: Any, width: Any, like: Any, out: Any) -> None:
    """Write the squared norms of ``start : start + width`` of every row, of `like`'s dtype, into `out`."""
    shift = np.uintp(start * like.itemsize)
    for i in range(addresses.shape[0]):
        row = carray(_pointer(addresses[i] + shift, like), width)
        total = 0.0
        for c in range(width):
            value = np.float64(row[c])
            total += value * value
        out[i] = total


@njit(nogil=True, cache=True, fastmath=_FAST)
def pick_centre(block: Any, finite: Any) -> Any:
    """Return the row, of about four candidates, that lies nearest to most rows on 16 sampled columns."""
    n, columns = block.shape[0], block.shape[1]
    step = max(1, columns // 16)
    stride = max(1, n // 4)
    distances = np.empty(n)
    best, best_score = 0, np.inf
    for j in range(0, n, stride):
        if not finite[j]:
            continue
        count = 0
        for i in range(n):
            if finite[i]:
                total = 0.0
                for c in range(0, columns, step):
                    gap = np.float64(block[i, c]) - np.float64(block[j, c])
                    total += gap * gap
                distances[count] = total
                count += 1
        score = np.sort(distances[:count])[count // 2]
        if score < best_score:
            best, best_score = j, score
    if best_score == np.inf:
        for j in range(n):
            if finite[j]:
                return j
    return best


@njit(nogil=True, cache=True)
def marked_norms(block: Any, norms: Any) -> None:
    """Write the squared norms of the first ``len(norms)`` rows; +inf for a row that is not finite."""
    squared_norms(block[: norms.shape[0]], norms)
    for i in range(norms.shape[0]):
        if not np.isfinite(norms[i]):
            norms[i] = np.inf


@njit(nogil=True, cache=True, fastmath=_FAST)
def _dot(a: Any, b: Any) -> Any:
    total = 0.0
    for c in range(a.shape[0]):
        total += np.float64(a[c]) * np.float64(b[c])
    return total


@njit(nogil=True, cache=True)
def centre_rows(block: Any, norms: Any, to_zero: Any) -> None:
    """Move the origin of the whole block to one of its rows; `norms` come from `marked_norms`.

    A row that is not finite becomes 0 before the move and -origin after it. `to_zero`, if it is not empty,
    receives the inner product of every moved row with the moved zero, and last the latter's squared norm.
    """
    n = norms.shape[0]
    finite = np.isfinite(norms)
    for i in range(n):
        if not finite[i]:
            block[i] = 0
    origin = block[pick_centre(block[:n], finite)].copy()
    for i in range(block.shape[0]):
        row = block[i]
        for c in range(row.shape[0]):
            row[c] -= origin[c]
        if to_zero.shape[0] > 0:
            to_zero[i] = -_dot(row, origin) if i >= n or finite[i] else 0.0
    if to_zero.shape[0] > 0:
        to_zero[block.shape[0]] = _dot(origin, origin)


@njit(nogil=True, cache=True)
def keeps_digits(gram: Any, norms: Any, limit: float) -> bool:
    """Whether most rows are near the origin: not `limit` times farther, squared, than from one another.

    The latter is the distance of the nearest of eight rows from most others.
    """
    n = norms.shape[0]
    squares = np.empty(n)
    count = 0
    for i in range(n):
        if norms[i] != np.inf:
            squares[count] = gram[i, i]
            count += 1
    if count == 0:
        return True
    middle = count // 2
    least = np.sort(squares[:count])[middle] / limit
    for j in range(0, n, max(1, n // 8)):
        if norms[j] == np.inf:
            continue
        nearer = 0
        for i in range(n):
            if norms[i] != np.inf and max(gram[i, i] + gram[j, j] - 2.0 * gram[i, j], 0.0) < least:
                nearer += 1
        if nearer > middle:
            return False
    return True


@njit(nogil=True, cache=True)
def accept_gram(product: Any, norms: Any, limit: float, gram: Any) -> bool:
    """Copy a block's Gram matrix to float64, without rows that are not finite, if it kept the digits.

    It did if it is finite and if its origin is near most rows.
    """
    m = product.shape[0]
    for i in range(m):
        for j in range(m):
            gram[i, j] = product[i, j]
    for i in range(norms.shape[0]):
        if norms[i] == np.inf:
            gram[i, :] = 0.0
            gram[:, i] = 0.0
    finite = True
    for i in range(m):
        for j in range(m):
            finite &= abs(gram[i, j]) < np.inf
    if not finite:
        return False
    return bool(keeps_digits(gram, norms, limit))


@njit(nogil=True, cache=True)
def insert_point(gram: Any, at: Any, products: Any) -> Any:
    """Return the Gram matrix with one more point at index `at`, given its products with all, its own last."""
    k = gram.shape[0]
    out = np.empty((k + 1, k + 1))
    for i in range(k):
        row = i + (i >= at)
        for j in range(k):
            out[row, j + (j >= at)] = gram[i, j]
        out[row, at] = products[i]
        out[at, row] = products[i]
    out[at, at] = products[k]
    return out


@njit(nogil=True, cache=True)
def row_mean(block: Any, first: Any, last: Any, out: Any) -> None:
    """Write the mean of rows ``first : last`` of `block` into `out`, summed in float64 in row order."""
    total = np.empty(_TILE)
    scale = 1.0 / (last - first)
    for tile in range(0, out.shape[0], _TILE):
        width = min(_TILE, out.shape[0] - tile)
        for c in range(width):
            total[c] = 0.0
        for i in range(first, last):
            row = block[i, tile : tile + width]
            for c in range(width):
                total[c] += row[c]
        target = out[tile : tile + width]
        for c in range(width):
            target[c] = total[c] * scale


@njit(nogil=True, cache=True)
def mean_around(block: Any, centre: Any, keep: Any, out: Any) -> None:
    """Average, in every sorted column, the `keep` values nearest `centre`; ties keep the lower value.

    In a sorted column the nearest values are a window; it starts at the lowest k for which the value that
    would leave on the left is no farther than the one that would come in on the right.
    """
    n = block.shape[0]
    first = np.empty(_TILE, np.int32)
    total = np.empty(_TILE)
    scale = 1.0 / keep
    for tile in range(0, out.shape[0], _TILE):
        width = min(_TILE, out.shape[0] - tile)
        middle = centre[tile : tile + width]
        for c in range(width):
            first[c] = 0
            total[c] = 0.0
        for k in range(n - keep):
            left = block[k, tile : tile + width]
            right = block[k + keep, tile : tile + width]
            for c in range(width):
                moves = (first[c] == k) & (middle[c] - left[c] > right[c] - middle[c])
                first[c] = k + 1 if moves else first[c]
        for i in range(n):
            row = block[i, tile : tile + width]
            for c in range(width):
                inside = (first[c] <= i) & (i < first[c] + keep)
                total[c] += np.float64(row[c]) if inside else 0.0
        target = out[tile : tile + width]
        for c in range(width):
            target[c] = total[c] * scale


@njit(nogil=True, cache=True)
def mean_std(block: Any, scale: Any, out: Any) -> None:
    """Write, per column, mean + scale * population standard deviation of the finite values into `out`."""
    n = block.shape[0]
    mean = np.empty(_TILE)
    square = np.empty(_TILE)
    for tile in range(0, out.shape[0], _TILE):
        width = min(_TILE, out.shape[0] - tile)
        target = out[tile : tile + width]
        for c in range(width):
            mean[c] = 0.0
            square[c] = 0.0
        for i in range(n):
            row = block[i, tile : tile + width]
            for c in range(width):
                mean[c] += np.float64(row[c])
        infinite = False
        for c in range(width):
            infinite |= mean[c] - mean[c] != 0.0
            mean[c] /= n
        if infinite:
            _mean_std_of_finite(block, tile, scale, target)
            continue
        for i in range(n):
            row = block[i, tile : tile + width]
            for c in range(width):
                gap = np.float64(row[c]) - mean[c]
                square[c] += gap * gap
        for c in range(width):
            target[c] = mean[c] + scale * np.sqrt(square[c] / n)


@njit(nogil=True, cache=True)
def _mean_std_of_finite(block: Any, tile: Any, scale: Any, out: Any) -> None:
    """Do one tile of `mean_std` in which some column may hold a value that is not finite."""
    n, width = block.shape[0], out.shape[0]
    count = np.zeros(width)
    mean = np.zeros(width)
    square = np.zeros(width)
    for i in range(n):
        row = block[i, tile : tile + width]
        for c in range(width):
            value = np.float64(row[c])
            here = value - value == 0.0
            count[c] += 1.0 if here else 0.0
            mean[c] += value if here else 0.0
    for c in range(width):
        mean[c] /= max(count[c], 1.0)
    for i in range(n):
        row = block[i, tile : tile + width]
        for c in range(width):
            value = np.float64(row[c])
            gap = value - mean[c] if value - value == 0.0 else 0.0
            square[c] += gap * gap
    for c in range(width):
        out[c] = mean[c] + scale * np.sqrt(square[c] / max(count[c], 1.0))
