"""Which rows of a block are finite, for rules that ask nothing else of them."""

from __future__ import annotations

import array_api_compat
import numpy as np

from byzflow.kernels.blocks import Span
from byzflow.kernels.gram import norms_block
from byzflow.kernels.rows import Rows

__all__ = ("finite_block",)


def finite_block(rows: Rows, span: Span) -> dict[str, np.ndarray]:
    """Return ``{"norms": (n,)}`` over the span: +inf for a row that is not finite there, 0 for others.

    Those too large to square are finite: such rules look at the rows only if the answer is not finite.

    Examples
    --------
    >>> from byzflow.kernels.intake import as_rows
    >>> finite_block(as_rows([np.array([3.0, 1e200]), np.array([np.nan, 0.0])]), Span(0, 2))["norms"]
    array([ 0., inf])
    """
    norms = norms_block(rows, span)["norms"]
    suspects = np.flatnonzero(np.isinf(norms)).tolist()
    norms[:] = 0.0
    if suspects:
        X = rows.read(span)
        xp = array_api_compat.array_namespace(X)
        for i in suspects:
            norms[i] = 0.0 if bool(xp.all(xp.isfinite(X[i, :]))) else np.inf
    return {"norms": norms}
