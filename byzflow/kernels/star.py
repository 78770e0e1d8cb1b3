"""Additive squared distances of all rows to one of them: one pass, where a Gram matrix would be n."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np
from numba import carray

from byzflow.kernels.blocks import Span
from byzflow.kernels.host import to_host
from byzflow.kernels.native.addresses import FAST, pointer
from byzflow.kernels.native.loops import loop
from byzflow.kernels.rows import Rows

__all__ = ("star_block",)


def star_block(rows: Rows, span: Span, hub: int) -> dict[str, np.ndarray]:
    """Return ``{"norms": (n,), "star": (n,)}`` over the span, in float64.

    Parameters
    ----------
    rows : Rows
        The n rows.
    span : Span
        One canonical block.
    hub : int
        Index of the row that distances are measured from.

    Examples
    --------
    >>> from byzflow.kernels.intake import as_rows
    >>> rows = as_rows([np.array([3.0, 4.0]), np.array([0.0, 0.0]), np.array([np.inf, 0.0])])
    >>> star_block(rows, Span(0, 2), hub=1)
    {'norms': array([25.,  0., inf]), 'star': array([25.,  0.,  0.])}
    """
    norms, star = np.empty(rows.n), np.empty(rows.n)
    if rows.addresses is not None:
        like = np.empty(0, rows.dtype)
        _distances(rows.addresses, hub, span.lo - rows.offset, span.width, like, norms, star)
    else:
        X = rows.read(span)
        xp = array_api_compat.array_namespace(X)
        wide = xp.astype(X, xp.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # rows of inf are ranked last, without a warning
            apart = wide - wide[hub, :]
            norms, star = to_host(xp.sum(wide * wide, axis=1)), to_host(xp.sum(apart * apart, axis=1))
    norms = np.where(np.isnan(norms), np.inf, norms)
    return {"norms": norms, "star": np.where(np.isfinite(star), star, 0.0)}


@loop(fastmath=FAST)
def _distances(addresses: Any, hub: Any, start: Any, width: Any, like: Any, norms: Any, star: Any) -> None:
    shift = np.uintp(start * like.itemsize)
    centre = carray(pointer(addresses[hub] + shift, like), width)
    for i in range(addresses.shape[0]):
        row = carray(pointer(addresses[i] + shift, like), width)
        norm = 0.0
        total = 0.0
        for c in range(width):
            value = np.float64(row[c])
            apart = value - np.float64(centre[c])
            norm += value * value
            total += apart * apart
        norms[i] = norm
        star[i] = total
