"""Vectors in memory that the processes of one machine share, so that rounds on large vectors copy little."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from byzflow.engine.actor.shared import Shared
from byzflow.engine.rounds.forms import Signature
from byzflow.engine.rounds.sites import Site, copies, mapped, pitch_of, rows_in, site_of, take

__all__ = ("Arena", "RowRef")


class Arena:
    """Rows that this process owns and all read.

    Parameters
    ----------
    rows : int
        How many.
    signature : Signature
        Form of every row: NumPy or torch, floating point, on the CPU.

    Examples
    --------
    >>> arena = Arena(2, Signature("numpy", "float32", (3,)))
    >>> arena.write(1, np.ones(3, dtype=np.float32))
    >>> RowRef(arena.site, 1).open()
    array([1., 1., 1.], dtype=float32)
    """

    def __init__(self, rows: int, signature: Signature) -> None:
        self._shared = Shared(rows * pitch_of(signature), "arena")
        self.site = site_of(*self._shared.spot, rows, signature)
        self._matrix = rows_in(self._shared.memory, self.site)

    def write(self, row: int, vector: Any) -> None:
        """Copy a vector into a row."""
        self._matrix[row] = vector.reshape(-1)


@dataclass(frozen=True, slots=True)
class RowRef:
    """One row of an arena, wherever in this machine it is."""

    site: Site
    row: int

    def __reduce__(self) -> tuple[Any, ...]:
        return RowRef, (self.site, self.row)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the vector."""
        return self.site.signature.shape

    @property
    def nbytes(self) -> int:
        """Size of the vector [bytes]."""
        return self.site.signature.nbytes

    def flat(self) -> Any:
        """Return the row, shape ``(d,)``, to be read only: all callers in one process get the same memory."""
        return mapped(self.site)[self.row]

    def open(self) -> Any:
        """Return the vector, to be read only."""
        return self.flat().reshape(self.shape)

    def copy(self) -> Any:
        """Return the vector as one of the caller's own."""
        return copies(self.site, (self.row,))[0]

    def take(self, vector: Any) -> float:
        """Copy a vector of the row's form into it, from whatever process, and return its norm."""
        return take(self.site, self.row, vector)

    def write(self, lo: int, hi: int, values: Any) -> None:
        """Copy values into columns ``lo`` to ``hi``, from whatever process."""
        matrix = mapped(self.site, mmap.ACCESS_WRITE)
        is_torch = isinstance(matrix, torch.Tensor)
        matrix[self.row, lo:hi] = torch.as_tensor(values, device="cpu") if is_torch else np.asarray(values)
