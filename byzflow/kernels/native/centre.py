"""Loops over one block before its Gram matrix is taken: its norms, and the choice of an origin."""

from __future__ import annotations

from typing import Any

import numpy as np

from byzflow.kernels.native.addresses import FAST, part_of, squared_norm
from byzflow.kernels.native.loops import loop
from byzflow.kernels.native.order import nth

__all__ = ("is_finite", "pick_centre", "squared_norms")


@loop(fastmath=FAST)
def squared_norms(block: Any, out: Any) -> None:
    """Write the squared norm of every row of `block` into `out` (float64; inf or NaN if a value is)."""
    for i in range(block.shape[0]):
        out[i] = squared_norm(part_of(block, i, 0, block.shape[1]))


@loop()
def is_finite(block: Any) -> bool:
    """Whether `block` holds neither NaN nor infinities."""
    rows, width = block.shape
    if block.strides[0] == width * block.itemsize:
        rows, width = 1, rows * width
    for i in range(rows):
        row = part_of(block, i, 0, width)
        finite = True
        for c in range(row.shape[0]):
            finite &= abs(row[c]) < np.inf
        if not finite:
            return False
    return True


@loop(fastmath=FAST)
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
        score = nth(distances[:count], count // 2)
        if score < best_score:
            best, best_score = j, score
    if best_score == np.inf:
        for j in range(n):
            if finite[j]:
                return j
    return best
