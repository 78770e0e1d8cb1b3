"""How far the honest nodes are from agreeing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from byzflow.kernels import native
from byzflow.kernels.blocks import Span, blocks
from byzflow.kernels.intake import as_rows
from byzflow.kernels.rows import Rows
from byzflow.kernels.sheets import Sheets

__all__ = ("COLUMNS", "block_spreads", "consensus_distance", "total_spread")

COLUMNS = 1 << 13  # what is added up apart, so that parts of vectors may be looked at in different places


def consensus_distance(vectors: Iterable[Any]) -> float:
    """Return the mean squared distance of vectors to their mean, ``(1/h) Σ ‖θ_i - θ̄‖²``; 0 for none.

    Parameters
    ----------
    vectors : iterable of Array
        h vectors of one shape, any library. NaN where one of several is not finite.

    Examples
    --------
    >>> consensus_distance([np.zeros(2), np.full(2, 2.0)])
    2.0
    """
    rows = list(vectors)
    if not rows:
        return 0.0
    shapes = {tuple(np.shape(row)) for row in rows}
    if len(shapes) > 1:
        raise ValueError(
            f"consensus_distance needs vectors of one shape; got {sorted(shapes)}. "
            "Pass the same parameters of each."
        )
    d = int(np.prod(shapes.pop()))
    return total_spread(block_spreads(rows, Span(0, d)), len(rows))


def block_spreads(vectors: Sequence[Any], span: Span) -> list[float]:
    """Return the squared distances of vectors to their mean, added up within each block of a span of columns.

    The span starts where a block does, so that the parts of a vector may be looked at in different places.

    Examples
    --------
    >>> block_spreads([np.zeros(2), np.full(2, 2.0)], Span(0, 2))
    [4.0]
    """
    rows, parts = _rows(vectors), []
    for lo, hi in blocks(span, COLUMNS):
        window = rows.window(Span(lo, hi))
        parts.append(native.spread(window.addresses, window.start, hi - lo, np.empty(0, window.dtype)))
    return parts


def total_spread(parts: Iterable[float], h: int) -> float:
    """Return the consensus distance of h vectors, given what `block_spreads` says of all blocks in order.

    Examples
    --------
    >>> total_spread([4.0], 2)
    2.0
    """
    total = 0.0
    for part in parts:
        total += part
    return total / max(h, 1) if not total < 0.0 else 0.0  # NaN stays NaN


def _rows(vectors: Sequence[Any]) -> Rows:
    """Return vectors as rows that can be read where they lie; those that cannot, or differ, in float64."""
    if isinstance(vectors, Sheets) and vectors.is_readable:
        return as_rows(vectors)
    kinds = {(type(vector), getattr(vector, "dtype", None)) for vector in vectors}
    if len(kinds) == 1 and (rows := as_rows(vectors)).addresses is not None:
        return rows
    return as_rows([_host(vector).astype(np.float64) for vector in vectors])


def _host(vector: Any) -> np.ndarray:
    if isinstance(vector, torch.Tensor):
        tensor = vector.detach().cpu()
        is_short = tensor.is_floating_point() and tensor.element_size() < 4  # NumPy lacks most of these
        vector = (tensor.float() if is_short else tensor).numpy()
    return np.asarray(vector.get() if hasattr(vector, "get") else vector).reshape(-1)
