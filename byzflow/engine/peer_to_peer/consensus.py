"""How far the honest nodes are from agreeing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from byzflow.engine.actor.stack import Stack
from byzflow.kernels.blocks import Span, blocks

__all__ = ("COLUMNS", "block_spreads", "consensus_distance", "total_spread")

COLUMNS = 1 << 13  # a block of ten float64 rows fits the cache


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
    shapes = {tuple(np.shape(row)) for row in rows}
    if len(shapes) > 1:
        raise ValueError(
            f"consensus_distance needs vectors of one shape; got {sorted(shapes)}. "
            "Pass the same parameters of each."
        )
    d = int(np.prod(shapes.pop())) if rows else 0
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
        first = rows[0][lo:hi].astype(np.float64)
        # Digits are lost around a far origin, not around a row; the mean's part goes off at the end.
        is_matrix = isinstance(rows, np.ndarray)
        D = (rows[1:, lo:hi] if is_matrix else np.stack([row[lo:hi] for row in rows[1:]] or [first])) - first
        s = D.sum(axis=0)
        parts.append(float(np.einsum("ij,ij->", D, D)) - float(np.einsum("j,j->", s, s)) / len(rows))
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


def _rows(vectors: Sequence[Any]) -> Any:
    """Return vectors as rows of one matrix if they are short and several, else one by one."""
    stack = Stack.tried(vectors) if len(vectors) > 1 else None
    if stack is None:
        return [_host(vector) for vector in vectors]
    return _host(stack.matrix).reshape(len(vectors), -1)


def _host(vector: Any) -> np.ndarray:
    if isinstance(vector, torch.Tensor):
        tensor = vector.detach().cpu()
        is_short = tensor.is_floating_point() and tensor.element_size() < 4  # NumPy lacks most of these
        vector = (tensor.float() if is_short else tensor).numpy()
    return np.asarray(vector.get() if hasattr(vector, "get") else vector).reshape(-1)
