"""Loops and products over small float64 matrices on the host, whose bits follow no thread count.

NumPy's own BLAS splits products from some 64 rows on, and nothing holds it to one thread reliably where
several Python threads solve. So loops are compiled, those of products too; what is left goes through torch,
on one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

from byzflow.kernels.native.loops import loop
from byzflow.kernels.native.products import write_cross_products
from byzflow.kernels.native.sums import ROOM, sum_of_rows
from byzflow.kernels.threads import one_thread

__all__ = (
    "cholesky_solve",
    "compiled",
    "dot",
    "is_sparse",
    "lined",
    "matvec",
    "multiply_sparse",
    "norm",
    "product",
    "sq_distances",
    "sq_distances_to",
    "transposed",
    "vecmat",
)

_LINE, _ROOM = 8, 32
"""Numbers in a cache line, and how many a vectorised loop takes at once; it takes what is left one by one."""

_SPARSE = 8
"""A matrix with one entry in so many, or fewer, is multiplied entry by entry."""

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a loop when it is first called, for good, and to the letter: no sum is taken in another order.

    Where a loop adds up and writes, compilers make two versions and choose by where the arrays happen to lie.
    So what is to be fast is a call of `dot`, `norm` or `matvec`, which add up in loops that only read.
    """
    return loop(error_model="numpy")(function)


def _dot(x: Any, y: Any) -> Any:
    """Return the inner product of two vectors."""
    total = 0.0
    for i in range(x.shape[0]):
        total += x[i] * y[i]
    return total


dot: Any = loop(fastmath={"reassoc", "contract", "nsz"})(_dot)


def _four_dots(a: Any, b: Any, e: Any, g: Any, x: Any) -> Any:
    """Return the inner products of four vectors with one that is read once."""
    of_a = of_b = of_e = of_g = 0.0
    for i in range(x.shape[0]):
        of_a += a[i] * x[i]
        of_b += b[i] * x[i]
        of_e += e[i] * x[i]
        of_g += g[i] * x[i]
    return of_a, of_b, of_e, of_g


_dots: Any = loop(fastmath={"reassoc", "contract", "nsz"})(_four_dots)


@compiled
def lined(rows: Any, width: Any) -> Any:
    """Return room, (rows, w) with w at least `width`, whose rows fill whole cache lines: loops are faster.

    What is beyond `width` is zero, and the rest undefined.

    Examples
    --------
    >>> lined(2, 3).shape
    (2, 32)
    """
    w = -(-width // _ROOM) * _ROOM
    whole = np.empty(rows * w + _LINE)
    start = -(whole.ctypes.data // whole.itemsize) % _LINE
    room = whole[start : start + rows * w].reshape(rows, w)
    room[:, width:] = 0.0
    return room


@compiled
def norm(x: Any) -> Any:
    """Return the Euclidean norm of a vector."""
    return np.sqrt(dot(x, x))


@compiled
def matvec(A: Any, x: Any, out: Any) -> None:
    """Write ``A x`` into `out`.

    Examples
    --------
    >>> out = np.empty(2)
    >>> matvec(np.eye(2), np.ones(2), out)
    >>> out
    array([1., 1.])
    """
    last = A.shape[0] - 1
    for i in range(0, last + 1, 4):  # where fewer than four rows are left, the last one is repeated
        j, k, m = min(i + 1, last), min(i + 2, last), min(i + 3, last)
        out[i], out[j], out[k], out[m] = _dots(A[i], A[j], A[k], A[m], x)


@compiled
def vecmat(x: Any, A: Any, out: Any) -> None:
    """Write ``x A`` into `out`: if A is symmetric, and `lined`, in half the time of `matvec`.

    Examples
    --------
    >>> out = np.empty(2)
    >>> vecmat(np.ones(3), np.arange(6.0).reshape(3, 2), out)
    >>> out
    array([6., 9.])
    """
    whole = out.shape[0] // ROOM * ROOM
    for c in range(0, whole, ROOM):
        sum_of_rows(x, A, c, out)
    for c in range(whole, out.shape[0]):
        out[c] = 0.0
        for j in range(A.shape[0]):
            out[c] += x[j] * A[j, c]


def product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return ``A @ B`` in float64, at the price of the entries of A that are not zero if those are few.

    Examples
    --------
    >>> product(np.eye(2), np.array([1.0, 2.0]))
    array([1., 2.])
    """
    if A.ndim == B.ndim == 2:
        out = np.empty((len(A), B.shape[1]))
        _multiply(np.ascontiguousarray(A, np.float64), np.ascontiguousarray(B, np.float64), out)
        return out
    a, b = (
        torch.from_numpy(
            M if M.dtype == np.float64 and M.flags.carray else np.require(M, np.float64, ("C", "W"))
        )
        for M in (A, B)
    )
    with one_thread():
        answer: np.ndarray = torch.matmul(a, b).numpy()
    return answer


@compiled
def _multiply(A: Any, B: Any, out: Any) -> None:
    if is_sparse(A):
        multiply_sparse(A, B, out)
    else:
        write_cross_products(A, transposed(B), out)


@compiled
def is_sparse(A: Any) -> bool:
    """Whether to multiply by A is faster entry by entry: few are not zero, or there is but one row.

    Examples
    --------
    >>> is_sparse(np.eye(8)), is_sparse(np.eye(7))
    (True, False)
    """
    count = 0
    for i in range(A.shape[0]):
        for weight in A[i]:
            count += weight != 0.0
    return bool(A.shape[0] == 1 or count * _SPARSE <= A.size)


@compiled
def transposed(A: Any) -> Any:
    """Return a copy of A with rows as columns.

    Examples
    --------
    >>> transposed(np.ones((2, 1))).shape
    (1, 2)
    """
    out = np.empty((A.shape[1], A.shape[0]))
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            out[j, i] = A[i, j]
    return out


@compiled
def multiply_sparse(A: Any, B: Any, out: Any) -> None:
    """Write ``A B`` into `out`, skipping the zeros of A.

    Examples
    --------
    >>> out = np.empty((1, 2))
    >>> multiply_sparse(np.array([[2.0, 0.0]]), np.eye(2), out)
    >>> out
    array([[2., 0.]])
    """
    for i in range(A.shape[0]):
        total = out[i]
        total[:] = 0.0
        for j in range(A.shape[1]):
            weight = A[i, j]
            if weight != 0.0:
                row = B[j]
                for c in range(row.shape[0]):
                    total[c] += weight * row[c]


@compiled
def sq_distances(gram: Any, finite: Any) -> Any:
    """Return the squared distances between rows, (n, n); +inf where one of the two is not finite.

    Parameters
    ----------
    gram : ndarray, (m, m)
        Inner products of the n rows, and of anchors after them.
    finite : ndarray, (n,) bool
        Which rows are finite.
    """
    n = finite.shape[0]
    D = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            D[i, j] = max(gram[i, i] + gram[j, j] - (gram[i, j] + gram[j, i]), 0.0)
        D[i, i] = 0.0
    for i in range(n):
        if not finite[i]:
            for j in range(n):
                D[i, j] = D[j, i] = np.inf
    return D


@compiled
def sq_distances_to(gram: Any, weights: Any, product: Any, out: Any) -> None:
    """Write the squared distances of the first ``len(out)`` points to ``sum_j weights[j] x_j`` into `out`.

    `product`, (m,), becomes ``gram @ weights``.
    """
    matvec(gram, weights, product)
    square = dot(weights, product)
    for i in range(out.shape[0]):
        out[i] = max(gram[i, i] - 2.0 * product[i] + square, 0.0)


@compiled
def cholesky_solve(A: Any, b: Any) -> bool:
    """Solve ``A x = b`` in place of b; A is overwritten. False if A is not positive definite."""
    n = A.shape[0]
    for i in range(n):
        row = A[i]
        for j in range(i + 1):
            other = A[j]
            total = row[j] - dot(row[:j], other[:j])
            if j < i:
                row[j] = total / other[j]
            elif total > 0.0:
                row[i] = np.sqrt(total)
            else:
                return False
    for i in range(n):
        b[i] = (b[i] - dot(A[i, :i], b[:i])) / A[i, i]
    for i in range(n - 1, -1, -1):
        b[i] /= A[i, i]
        for k in range(i):
            b[k] -= A[i, k] * b[i]
    return True
