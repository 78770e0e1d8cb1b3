"""n vectors that lie as rows of a few matrices, as one sequence: none is cut out before it is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import torch

from byzflow.kernels.template import COMPUTED, Array

__all__ = ("Sheets", "split")


class Sheets(Sequence[Array]):
    """Vectors of one form by their places in matrices.

    A thousand small vectors that came as one array are read where they lie; to make an object of each takes
    as long as a rule.

    Parameters
    ----------
    matrices : sequence of array
        NumPy or torch on the CPU, contiguous, ``(k, *shape)`` each, of one library, dtype and shape.
    places : ndarray of int, optional
        Row of each vector in the matrices one below the other; by default all, in order.

    Examples
    --------
    >>> above, below = np.zeros((1, 2)), np.ones((2, 2))
    >>> sheets = Sheets([above, below], np.array([1, 0]))
    >>> len(sheets), sheets[0], list(sheets)
    (2, array([1., 1.]), [array([1., 1.]), array([0., 0.])])
    """

    __slots__ = ("_places", "_vectors", "matrices")

    def __init__(self, matrices: Sequence[Array], places: np.ndarray | None = None) -> None:
        self.matrices = tuple(matrices)
        self._places = np.arange(sum(map(len, matrices))) if places is None else places
        self._vectors: list[Array] | None = None

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Array: ...

    @overload
    def __getitem__(self, index: slice) -> Sheets: ...

    def __getitem__(self, index: int | slice) -> Array | Sheets:
        if isinstance(index, slice):
            return Sheets(self.matrices, self._places[index])
        if self._vectors is not None:
            return self._vectors[index]
        row = int(self._places[index])
        for matrix in self.matrices:
            if row < len(matrix):
                return matrix[row, ...]
            row -= len(matrix)
        raise IndexError(index)

    def __add__(self, more: Sheets) -> Sheets:
        height = sum(map(len, self.matrices))
        places = np.concatenate((self._places, more._places + height))
        return Sheets((*self.matrices, *more.matrices), places)

    def __iter__(self) -> Iterator[Array]:
        if self._vectors is None:
            rows = [row for matrix in self.matrices for row in split(matrix)]
            self._vectors = [rows[place] for place in self._places.tolist()]
        return iter(self._vectors)

    def whole(self) -> Array:
        """Return all vectors as one matrix, in their order."""
        is_torch = isinstance(self.matrices[0], torch.Tensor)
        whole = torch.cat(self.matrices) if is_torch else np.concatenate(self.matrices)
        is_in_order = len(whole) == len(self) and bool((np.diff(self._places) == 1).all())
        return whole if is_in_order else whole[self._places]

    @property
    def is_readable(self) -> bool:
        """Whether compiled loops can read all of them where they lie."""
        return len(self) > 0 and all(_is_readable(matrix) for matrix in self.matrices)

    @property
    def addresses(self) -> np.ndarray:
        """Where each vector lies in memory."""
        starts = []
        for matrix in self.matrices:
            whole = matrix.numpy() if isinstance(matrix, torch.Tensor) else matrix
            start, step = whole.__array_interface__["data"][0], whole.nbytes // max(1, len(whole))
            starts.append(start + step * np.arange(len(whole), dtype=np.uintp))
        found: np.ndarray = np.concatenate(starts)[self._places]
        return found


def _is_readable(matrix: Array) -> bool:
    if isinstance(matrix, torch.Tensor):
        return (
            matrix.dtype in COMPUTED and matrix.numel() > 0 and matrix.is_contiguous() and not matrix.is_neg()
        )
    return matrix.dtype in (np.float32, np.float64) and matrix.size > 0 and matrix.flags.c_contiguous


def split(matrix: Array) -> tuple[Array, ...]:
    """Return the rows of a contiguous array, which share its memory, but nothing that autograd notes.

    Examples
    --------
    >>> split(np.ones((2, 1)))
    (array([1.]), array([1.]))
    """
    if isinstance(matrix, np.ndarray):
        return tuple(matrix[i, ...] for i in range(len(matrix)))
    shape = matrix.shape[1:]
    rows: tuple[Any, ...] = matrix.detach().reshape(-1).unsafe_split_with_sizes([shape.numel()] * len(matrix))
    return rows if len(shape) == 1 else tuple(row.reshape(shape) for row in rows)
