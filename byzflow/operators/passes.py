"""The two passes over the rows by themselves, for what a plan cannot hold: a state, a search, a history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from byzflow.kernels.blocks import Span, Tree, blocks
from byzflow.kernels.combine import Mixture, combine_rows
from byzflow.kernels.gram import gram_block
from byzflow.kernels.intake import as_rows
from byzflow.kernels.pages import touched
from byzflow.kernels.rows import Array
from byzflow.kernels.threads import parallel
from byzflow.operators.geometry import Geometry
from byzflow.operators.linear import geometry_of

__all__ = ("combine", "survey")


def survey(vectors: Any, extra: Sequence[Array] = (), *, anchors: tuple[str, ...] = ("zero",)) -> Geometry:
    """Return the geometry of the vectors, and of the extra ones after them: the first pass, at once.

    Parameters
    ----------
    vectors : sequence of Array or stacked Array
        The rows; the first is the template.
    extra : sequence of Array
        Further rows, cast to the first.
    anchors : tuple of str, default ("zero",)
        See `Geometry`.

    Examples
    --------
    >>> survey([np.array([3.0, 4.0]), np.zeros(2)]).norms
    array([5., 0.])
    """
    rows = as_rows(vectors, extra)

    def over(span: Span) -> Tree:
        parts = blocks(span, rows.width)
        return Tree.over((part.lo // rows.width, gram_block(rows, part, anchors)) for part in parts)

    stats = Tree.merge(parallel(over, rows.n, rows.d, rows.width)).root()
    return geometry_of(stats, rows.n, anchors)


def combine(vectors: Any, W: np.ndarray, extra: Sequence[Array] = ()) -> list[Array]:
    """Return the rows of W X: the second pass, at once. Vectors of weight 0 are not read.

    Parameters
    ----------
    vectors : sequence of Array or stacked Array
        The rows; the first is the template of the answer.
    W : ndarray, (k, n) or (n,) float64
        Weights, those of the extra vectors last.
    extra : sequence of Array
        Further rows, cast to the first.

    Examples
    --------
    >>> combine([np.ones(2), np.full(2, np.nan)], np.array([2.0, 0.0]))
    [array([2., 2.])]
    """
    rows = as_rows(vectors, extra)
    mixture = Mixture.of(np.atleast_2d(W))
    out = touched(rows.like(mixture.height, rows.d))

    def over(span: Span) -> None:
        for part in blocks(span, rows.width):
            combine_rows(rows, mixture, part, out[:, part.lo : part.hi])

    parallel(over, rows.n, rows.d, rows.width)
    return rows.template.restore_rows(out)
