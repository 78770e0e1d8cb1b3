"""Sorting networks run down the columns of one block, several comparators for each load and store.

Comparators that follow one another on four rows of the block are one step: the four values of a column are
loaded once, pass through all of them, and are stored once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from byzflow.kernels.native.addresses import TILE, part_of

__all__ = ("compare_exchange", "steps")

_WINDOW = 64
"""How far ahead comparators are looked for that fit into a step."""

_CROSS, _DOUBLE, _SORT, _JOIN, _PAIR = 1, 2, 3, 4, 5
"""Kinds of steps on four rows; 0 is a lone comparator."""


@njit(cache=True)
def _kind(code: int) -> int:
    """Return the kind of a sequence of comparators, a hexadecimal digit ``4 low + high`` each, or 0."""
    if code == 0x276:
        return _CROSS
    if code == 0x1B27:
        return _DOUBLE
    if code == 0x1B276:
        return _SORT
    if code == 0x1B6:
        return _JOIN
    return _PAIR if code == 0x1B or code == 0x27 else 0


@njit(cache=True)
def steps(network: Any) -> Any:
    """Group the comparators of a network, (k, 2), into steps ``(kind, row, row, row, row)``.

    The result is the same: comparators only change places with others that share no row with them.
    """
    count = network.shape[0]
    done = np.zeros(count, np.bool_)
    best, taken = np.empty(5, np.int64), np.empty(5, np.int64)
    rows, found = np.empty(4, np.int64), np.empty(5, np.int64)
    grouped = np.empty((count, 5), np.int64)
    size = 0
    for seed in range(count):
        if done[seed]:
            continue
        kind, length = 0, 1
        best[0], best[1], best[2], best[3] = network[seed, 0], network[seed, 1], 0, 0
        taken[0] = seed
        for other in range(seed + 1, min(count, seed + _WINDOW)):
            rows[:2], rows[2:] = network[seed], network[other]
            if done[other] or rows[0] in rows[2:] or rows[1] in rows[2:]:
                continue
            rows = np.sort(rows)
            blocked, code, met = 0, 0, 0
            for k in range(seed, min(count, seed + _WINDOW)):
                if done[k]:
                    continue
                low, high = np.searchsorted(rows, network[k, 0]), np.searchsorted(rows, network[k, 1])
                has_low = low < 4 and rows[min(low, 3)] == network[k, 0]
                has_high = high < 4 and rows[min(high, 3)] == network[k, 1]
                free = not ((has_low and blocked >> low & 1) or (has_high and blocked >> high & 1))
                if has_low and has_high and free and met < 5:
                    found[met] = k
                    met += 1
                    code = code * 16 + 4 * low + high
                    if _kind(code) and met > length:
                        kind, length = _kind(code), met
                        best[:4], taken[:met] = rows, found[:met]
                        if code == 0x27:
                            best[1], best[2] = rows[2], rows[1]
                else:
                    blocked |= (1 << low if has_low else 0) | (1 << high if has_high else 0)
        grouped[size, 0] = kind
        grouped[size, 1:] = best[:4]
        size += 1
        for k in range(length):
            done[taken[k]] = True
    return grouped[:size].copy()


@njit(nogil=True, cache=True)
def compare_exchange(block: Any, network: Any, steps: Any) -> None:
    """Run a sorting network, which is also given in steps, down `block` in place; NaN sorts after +inf."""
    columns = block.shape[1]
    for tile in range(0, columns, TILE):
        end = min(tile + TILE, columns)
        if _has_nan(block, tile, end):
            for k in range(network.shape[0]):
                low = part_of(block, network[k, 0], tile, end)
                high = part_of(block, network[k, 1], tile, end)
                for c in range(end - tile):
                    a, b = low[c], high[c]
                    swap = (b < a) | (a != a)
                    low[c] = b if swap else a
                    high[c] = a if swap else b
        else:
            _run(block, tile, end, steps)


@njit(nogil=True, cache=True)
def _has_nan(block: Any, start: Any, end: Any) -> bool:
    for i in range(block.shape[0]):
        row = part_of(block, i, start, end)
        found = False
        for c in range(row.shape[0]):
            found |= row[c] != row[c]
        if found:
            return True
    return False


@njit(nogil=True, cache=True)
def _low(a: Any, b: Any) -> Any:
    return b if b < a else a


@njit(nogil=True, cache=True)
def _high(a: Any, b: Any) -> Any:
    return a if b < a else b


@njit(nogil=True, cache=True)
def _run(block: Any, start: Any, end: Any, steps: Any) -> None:
    """Run the steps on columns ``start : end``, without NaN."""
    width = end - start
    for k in range(steps.shape[0]):
        kind = steps[k, 0]
        A, B = part_of(block, steps[k, 1], start, end), part_of(block, steps[k, 2], start, end)
        E, G = part_of(block, steps[k, 3], start, end), part_of(block, steps[k, 4], start, end)
        if kind == _CROSS:
            for c in range(width):
                a, b, e, g = A[c], B[c], E[c], G[c]
                a, e = _low(a, e), _high(a, e)
                b, g = _low(b, g), _high(b, g)
                A[c], B[c], E[c], G[c] = a, _low(b, e), _high(b, e), g
        elif kind == _DOUBLE:
            for c in range(width):
                a, b, e, g = A[c], B[c], E[c], G[c]
                a, b = _low(a, b), _high(a, b)
                e, g = _low(e, g), _high(e, g)
                A[c], B[c], E[c], G[c] = _low(a, e), _low(b, g), _high(a, e), _high(b, g)
        elif kind == _SORT:
            for c in range(width):
                a, b, e, g = A[c], B[c], E[c], G[c]
                a, b = _low(a, b), _high(a, b)
                e, g = _low(e, g), _high(e, g)
                a, e = _low(a, e), _high(a, e)
                b, g = _low(b, g), _high(b, g)
                A[c], B[c], E[c], G[c] = a, _low(b, e), _high(b, e), g
        elif kind == _JOIN:
            for c in range(width):
                a, b, e, g = A[c], B[c], E[c], G[c]
                a, b = _low(a, b), _high(a, b)
                e, g = _low(e, g), _high(e, g)
                A[c], B[c], E[c], G[c] = a, _low(b, e), _high(b, e), g
        elif kind == _PAIR:
            for c in range(width):
                a, b, e, g = A[c], B[c], E[c], G[c]
                A[c], B[c], E[c], G[c] = _low(a, b), _high(a, b), _low(e, g), _high(e, g)
        else:
            for c in range(width):
                a, b = A[c], B[c]
                A[c], B[c] = _low(a, b), _high(a, b)
