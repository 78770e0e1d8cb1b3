"""What a linear rule may see of the rows: inner products, norms and which rows are finite.

Everything here is a small float64 NumPy array on the host, whatever library and dtype the rows have. How
the numbers are accumulated over blocks of columns belongs to the kernels; what a rule makes of them belongs
to the rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from byzflow.exceptions import ToleranceError
from byzflow.kernels import small
from byzflow.kernels.mixed import mixed_gram

__all__ = ("LONGEST", "Geometry")

LONGEST = 2.0**500
"""Norm, 3e150, from which a row counts as not finite: sums of squares of longer ones leave float64."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Geometry:
    """The Euclidean geometry of n rows, up to an unknown common origin.

    Distances do not depend on the origin ``r``, so a rule that uses differences of rows never needs to know
    it; a rule that cares about the true zero asks for the anchor ``"zero"``, one more row of the Gram
    matrix.

    Parameters
    ----------
    gram : ndarray, (m, m) float64
        ``<x_i - r, x_j - r>`` for the n rows and then the anchors, ``m = n + len(anchors)``. Always finite:
        the row and the column of a non-finite row are zero. Empty, (0, 0), for a rule that did not ask for
        it.
    sq_norms : ndarray, (n,) float64, or None
        True squared norms ``|x_i|**2``, +inf for a non-finite row; None unless asked for.
    finite : ndarray, (n,) bool
        False for a row that holds a NaN or an infinity, or is not shorter than `LONGEST`.
    anchors : tuple of str
        Which rows follow the n rows, in this order: ``"median"`` (coordinate-wise), ``"zero"``.

    Examples
    --------
    >>> X = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    >>> g = Geometry(gram=X @ X.T, sq_norms=(X * X).sum(1), finite=np.ones(3, dtype=bool))
    >>> g.sq_distances[0]
    array([ 0., 25.,  1.])
    >>> g.nearest(0, 2)
    array([0, 2])
    """

    gram: FloatArray
    sq_norms: FloatArray | None
    finite: BoolArray
    anchors: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of rows, anchors not counted."""
        return len(self.finite)

    @property
    def norms(self) -> FloatArray:
        """True norms of the rows, (n,); +inf for a non-finite row.

        Raises
        ------
        ValueError
            If the rule did not ask for norms.
        """
        if self.sq_norms is None:
            raise ValueError('norms need `uses` to contain "norms"; this rule asked for none. Add it.')
        return np.sqrt(self.sq_norms)

    @property
    def sq_distances(self) -> FloatArray:
        """Squared distances between rows, (n, n): symmetric, non-negative, zero diagonal.

        Rows and columns of non-finite rows are +inf, their diagonal entries too. Computed anew at every
        access.
        """
        distances: FloatArray = small.sq_distances(self.gram, self.finite)
        return distances

    def column(self, anchor: str) -> int:
        """Index of an anchor in the Gram matrix.

        Raises
        ------
        ValueError
            If the anchor was not asked for.
        """
        if anchor not in self.anchors:
            raise ValueError(
                f"This needs the anchor {anchor!r}; the rule asked for {self.anchors}. Add it to `anchors`."
            )
        return self.n + self.anchors.index(anchor)

    @property
    def products(self) -> FloatArray:
        """Inner products of the rows about the true origin, (n, n); 0 for non-finite rows.

        Raises
        ------
        ValueError
            If the rule did not ask for the anchor ``"zero"``.
        """
        n, origin = self.n, self.column("zero")
        gram = self.gram[:n, :n]
        to_origin = self.gram[:n, origin]
        products: FloatArray = gram - to_origin[:, None] - to_origin + self.gram[origin, origin]
        products[~self.finite] = 0.0
        products[:, ~self.finite] = 0.0
        return products

    def sq_distances_to(self, weights: FloatArray) -> FloatArray:
        """Squared distances of the n rows to ``sum_j weights[j] x_j``, (n,); +inf for non-finite rows.

        `weights` has length m and sums to 1. Uses inner products about the common origin: a far row with a
        tiny weight costs no digits.
        """
        squares = np.empty(self.n)
        small.sq_distances_to(self.gram, weights, np.empty(len(weights)), squares)
        squares[~self.finite] = np.inf
        return squares

    def rank(self, values: FloatArray) -> IntArray:
        """Return the rows by ascending `values`, (n,): ties to the lower index, non-finite rows last."""
        if np.count_nonzero(self.finite) == self.n:
            return values.argsort(kind="stable")
        return np.lexsort((values, ~self.finite))

    def nearest(self, i: int, k: int) -> IntArray:
        """Return the k rows nearest to row `i`: itself first, ties to the lower index, non-finite rows last.

        If row `i` is not finite every row is infinitely far from it: the finite rows come first, in their
        order.
        """
        gram = self.gram
        squares = gram.diagonal()[: self.n] - 2.0 * gram[i, : self.n]
        squares += gram[i, i]
        np.maximum(squares, 0.0, out=squares)
        if self.finite[i]:
            squares[i] = -1.0
        else:
            squares[:] = 0.0
        return self.rank(squares)[:k]

    def require_finite(self, k: int, rule: str) -> None:
        """Raise ToleranceError if fewer than `k` rows are finite."""
        count = int(np.count_nonzero(self.finite))
        if count < k:
            raise ToleranceError(
                f"{rule} needs at least {k} finite rows of {self.n}; {count} came without NaN, inf "
                "or numbers too large to square. Raise f if the rule allows it, or find out which nodes send "
                "such rows."
            )

    def mix(self, W: FloatArray) -> Geometry:
        """Return the geometry of the rows ``W X``: what makes linear rules compose.

        Parameters
        ----------
        W : ndarray, (k, n) float64
            Weights. Where a row of `W` does not sum to 1 (clipping), the anchor ``"zero"`` is needed.

        Returns
        -------
        Geometry
            Of k rows. The new origin is ``s r`` with s the lower median of the row sums, so that rows that
            were all shortened alike keep their digits. The anchor ``"zero"`` is kept, ``"median"`` is
            dropped: a median is not linear in the rows. A mixed row that gives weight to a non-finite row
            is not finite. True norms are known whenever the anchor ``"zero"`` is.

        Raises
        ------
        ValueError
            If a row of `W` does not sum to 1 and the anchor ``"zero"`` is missing.
        """
        n, k = self.n, len(W)
        finite = np.ones(k, dtype=np.bool_)
        if not self.finite.all():
            finite = ~(W[:, ~self.finite] != 0.0).any(axis=1)
            W = np.where(finite[:, None], W, 0.0)
        if "zero" not in self.anchors:
            if np.abs(W[finite].sum(axis=1) - 1.0).max(initial=0.0) > 1e-9:
                raise ValueError(
                    "mix needs the anchor 'zero' where the weights of a row do not sum to 1; the anchors are "
                    f'{self.anchors}. Ask for it: anchors = ("zero",).'
                )
            gram = _symmetric(small.product(W, small.product(W, self.gram[:n, :n]).T))
            return Geometry(gram=gram, sq_norms=None, finite=finite)
        base = self.gram
        if len(self.anchors) > 1:
            keep = [*range(n), self.column("zero")]
            base = base[np.ix_(keep, keep)]
        gram, sq_norms = mixed_gram(W, base, finite)
        return Geometry(gram=gram, sq_norms=sq_norms, finite=finite, anchors=("zero",))


def _symmetric(square: FloatArray) -> FloatArray:
    half: FloatArray = (square + square.T) * 0.5
    return half
