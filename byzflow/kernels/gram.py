"""Additive geometry of one column block: squared norms, and the Gram matrix about a centre near the rows.

Each block is centred on one of its own rows before the product, so that a common offset cancels before it
can round; the centres of all blocks together are the origin of the summed Gram matrix. Products are taken
in the rows' dtype on one thread, sums over blocks in float64. A small block keeps the true origin if that is
near enough.
"""

from __future__ import annotations

import array_api_compat
import numpy as np

from byzflow.kernels import native
from byzflow.kernels.blocks import Span
from byzflow.kernels.columns import median_anchor
from byzflow.kernels.rows import Array, Rows

__all__ = ("gram_block", "norms_block")

_OFF_CENTRE = 64.0
"""How much farther, squared, most rows may be from the centre than from each other: costs two digits."""

_NEAR = 4.0
"""The same for the true origin: where it is that near, no row is a better centre."""

_FEW = 1 << 15
"""Blocks up to this size try the true origin: to look for a centre costs more than the product [elements]."""

_VANISHING = 2.0**-106
"""Squared distance below which float32 squares may have lost digits to underflow, for each column.

What vanishes of a product is less than 2**-126, or a millionth of this.
"""

_HUGE = 2.0**127
"""Squared norm above which sums of products may leave float32."""

_SHORT = 2.0**-12
"""How much shorter, squared, than the centre a row may be: angles at the true origin lose as many digits."""


def norms_block(rows: Rows, span: Span) -> dict[str, np.ndarray]:
    """Return ``{"norms": (n,)}``, squared norms over the span; +inf for a row that is not finite there.

    Examples
    --------
    >>> from byzflow.kernels.intake import as_rows
    >>> norms_block(as_rows([np.array([3.0, 4.0]), np.array([np.nan, 0.0])]), Span(0, 2))["norms"]
    array([25., inf])
    """
    if not rows.host:
        return {"norms": _squared_norms(rows.read(span))}
    norms = np.empty(rows.n)
    if rows.addresses is None:
        native.squared_norms(rows.read(span), norms)
    else:
        native.squared_norms_at(
            rows.addresses, span.lo - rows.offset, span.width, np.empty(0, rows.dtype), norms
        )
    return {"norms": np.where(np.isnan(norms), np.inf, norms)}


def gram_block(rows: Rows, span: Span, anchors: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Return ``{"norms": (n,), "gram": (m, m)}`` over the span, ``m = n + len(anchors)``.

    Rows that are not finite here, or whose squared norm is not, have zeros in the Gram matrix.

    Parameters
    ----------
    rows : Rows
        The n rows.
    span : Span
        One canonical block.
    anchors : tuple of {"median", "zero"}
        Points that are no rows: the coordinate-wise lower median of the rows, and the origin.
    """
    n = rows.n
    points = len(anchors) - anchors.count("zero")  # that is a point without a row, the last one here
    gram, norms = np.empty((n + len(anchors),) * 2), np.empty(n)
    X = _stacked(rows, span, points) if points or rows.addresses is None else None
    if not (_on_host if rows.host else _on_device)(rows, span, X, norms, gram):
        return {"norms": norms, "gram": _careful_gram(rows.read(span), norms, anchors)}
    if "zero" in anchors[:-1]:
        order = [*range(n), *(n + (points if a == "zero" else 0) for a in anchors)]
        gram = gram[np.ix_(order, order)]
    return {"norms": norms, "gram": gram}


def _stacked(rows: Rows, span: Span, points: int) -> Array:
    """Return the block with its coordinate-wise median below it, as often as there are points."""
    n = rows.n
    X = rows.read(span, spare=points)
    for row in range(n, n + points):
        X[row, :] = median_anchor(X[:n, :])
    return X


def _on_host(rows: Rows, span: Span, X: Array | None, norms: np.ndarray, gram: np.ndarray) -> bool:
    """Write the Gram matrix of a block, which may have been read; False if its dtype loses digits.

    If it has one point more than there are rows, that is the zero.
    """
    if X is None:
        addresses, start = rows.addresses, span.lo - rows.offset
    else:
        addresses, start = native.addresses_of(X), 0
    where = (addresses, start, span.width, np.empty(0, rows.dtype))
    least, most = (_VANISHING * span.width, _HUGE) if rows.dtype is np.float32 else (0.0, np.inf)
    if len(gram) * span.width <= _FEW and native.small_gram(*where, _NEAR, (least, most), norms, gram):
        return True
    kept: bool = native.centred_gram(*where, _OFF_CENTRE, least, _SHORT, norms, gram)
    return kept


def _on_device(rows: Rows, span: Span, X: Array | None, norms: np.ndarray, gram: np.ndarray) -> bool:
    """Do the same by the block's own library."""
    X = rows.read(span) if X is None else X
    m = X.shape[0]
    with_zero = len(gram) > m
    norms[:] = _squared_norms(X[: len(norms), :])
    chosen = _centre(X, norms, with_zero)
    gram[:m, :m] = _product(X)
    if with_zero:
        native.set_zero_apart(gram, chosen)
    if not native.accept_gram(gram, norms, _OFF_CENTRE, _SHORT * gram[m, m] if with_zero else 0.0):
        return False
    xp = array_api_compat.array_namespace(X)
    if X.dtype != xp.float32:
        return True
    near = gram.diagonal() < _VANISHING * X.shape[1]
    near[: len(norms)] &= np.isfinite(norms)
    near[chosen] = False
    # The zero, moved, is in the place of the row that is the origin.
    return not any(bool(xp.any(X[i if i < m else chosen, :] != 0.0)) for i in np.flatnonzero(near).tolist())


def _careful_gram(X: Array, norms: np.ndarray, anchors: tuple[str, ...]) -> np.ndarray:
    """Return the Gram matrix in float64 about the coordinate-wise median: right for any finite rows.

    Taken where a sampled centre turns out to be far from the rows in this block (a liar that hides one
    large value), or from the origin as seen from a row that is near it, or where products overflow or
    underflow their dtype.
    """
    xp = array_api_compat.array_namespace(X)
    X = xp.astype(X, xp.float64)
    centre = median_anchor(X)
    dead = np.flatnonzero(np.isinf(norms))
    _clear(X, dead)
    points = [X, *(xp.reshape(centre if a == "median" else centre * 0.0, (1, -1)) for a in anchors)]
    gram = _product(xp.concat(points) - centre)
    gram[dead, :] = 0.0
    gram[:, dead] = 0.0
    return gram


def _product(X: Array) -> np.ndarray:
    """Return X Xᵀ on the host; products are of X's dtype."""
    if isinstance(X, np.ndarray):
        gram = np.empty((len(X), len(X)))
        native.write_products(native.addresses_of(X), 0, X.shape[1], np.empty(0, X.dtype), gram)
        return gram
    xp = array_api_compat.array_namespace(X)
    return _to_host(xp.matmul(X, xp.matrix_transpose(X)))


def _squared_norms(X: Array) -> np.ndarray:
    xp = array_api_compat.array_namespace(X)
    wide = xp.astype(X, xp.float64)
    norms = _to_host(xp.sum(wide * wide, axis=1))
    return np.where(np.isnan(norms), np.inf, norms)


def _centre(X: Array, norms: np.ndarray, with_zero: bool) -> int:
    """Move the origin of a block to one of its rows, as `native.centred_gram` does on the host; return which.

    Its place takes the zero, moved as the others, if that is asked for.
    """
    finite = np.isfinite(norms)
    _clear(X, np.flatnonzero(~finite))
    sample = _to_host(X[: len(norms), :: max(1, X.shape[1] // 16)])
    chosen = int(native.pick_centre(np.ascontiguousarray(sample), finite))
    origin = _copy(X[chosen, :])
    X -= origin
    if with_zero:
        X[chosen, :] = -origin
    return chosen


def _clear(X: Array, index: np.ndarray) -> None:
    for i in index.tolist():  # the standard knows no assignment to a list of rows
        X[i, :] = 0.0


def _copy(X: Array) -> Array:
    return (
        X.copy() if isinstance(X, np.ndarray) else array_api_compat.array_namespace(X).asarray(X, copy=True)
    )


def _to_host(X: Array) -> np.ndarray:
    """Return X as a NumPy array that may be written to, as not every library's may."""
    host = X.cpu().numpy() if hasattr(X, "cpu") else X.get() if hasattr(X, "get") else np.from_dlpack(X)
    return host if host.flags.writeable else host.copy()
