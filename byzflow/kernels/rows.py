"""n vectors as an (n, d) matrix that is read block by block.

What counts as n vectors belongs to `byzflow.kernels.intake`, what the answer looks like to
`byzflow.kernels.template`.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import array_api_compat
import numpy as np
import torch

from byzflow.kernels import native
from byzflow.kernels.blocks import Span, block_width, widest
from byzflow.kernels.template import Array, Template

__all__ = ("WIDE", "Array", "Rows", "Window")

WIDE = 1 << 18
"""Width of a canonical block on a device, where a launch costs more than a cache miss [columns]."""

_LINE = 16
"""Numbers in a cache line, if they are float32 [elements]."""

_scratch = threading.local()


class Window(NamedTuple):
    """Some columns of n rows in host memory, where they lie: to be read only.

    Attributes
    ----------
    addresses : ndarray of uintp
        Where the rows lie.
    start : int
        The first column, counted from there.
    shape : tuple of int
        ``(n, w)``.
    dtype : dtype
        float32 or float64.
    rows : Any
        What keeps the memory alive.
    """

    addresses: np.ndarray
    start: int
    shape: tuple[int, int]
    dtype: Any
    rows: Any

    @classmethod
    def of(cls, X: np.ndarray) -> Window:
        """Return all columns of a block whose rows are contiguous."""
        return cls(native.addresses_of(X), 0, X.shape, X.dtype, X)


class Rows(NamedTuple):
    """n flat vectors seen as the rows of an (n, d) matrix.

    Attributes
    ----------
    vectors : sequence of Array
        The rows, each of shape ``(d,)``, on one device.
    dtype : Any
        What is computed in: float32 or float64.
    addresses : ndarray of uintp or None
        Where the rows lie, if they can be read as they are: contiguous float32 or float64 in host memory.
    host : bool
        Whether blocks are numpy arrays. Otherwise they belong to the vectors' own library.
    offset : int
        Column of the whole matrix that the vectors start at: a shard knows where it lies.
    whole : int
        Number of columns of the whole matrix; 0 if that is `d`.
    """

    vectors: Any
    template: Template
    n: int
    d: int
    dtype: Any
    addresses: np.ndarray | None
    host: bool
    offset: int = 0
    whole: int = 0

    @property
    def width(self) -> int:
        """Width of a canonical block of these rows [columns]."""
        return block_width(self.n, self.whole or self.d) if self.host else WIDE

    @property
    def grid(self) -> int:
        """What shards of these rows, and of fewer made from them, are cut at multiples of [columns]."""
        return widest(self.whole or self.d) if self.host else WIDE

    def read(self, span: Span, spare: int = 0) -> Array:
        """Return columns `span` as an (n + spare, w) block that may be overwritten.

        The block is scratch memory of this thread: it is valid until the next call.
        """
        if not self.host:
            return self._stacked(span, spare)
        block = self.empty(self.n + spare, span.width)
        if self.addresses is not None:
            native.gather(self.addresses, span.lo - self.offset, block[: self.n])
        else:
            pieces = self._slices(span)
            block[: self.n] = torch.stack(pieces).to(torch.float32).numpy()
        return block

    def window(self, span: Span) -> Array | Window:
        """Return columns `span`, of any width, where they lie; as a block if they cannot be read there."""
        if self.addresses is None:
            return self.read(span)
        return Window(self.addresses, span.lo - self.offset, (self.n, span.width), self.dtype, self.vectors)

    def empty(self, rows: int, width: int) -> np.ndarray:
        """Return an uninitialised (rows, width) block in this thread's scratch memory, cache-line aligned."""
        # Narrow blocks lie close together: rows whole pages apart would share a few lines of the cache.
        stride = -(-width // _LINE) * _LINE
        key = (rows * max(self.width, stride), self.dtype)
        if getattr(_scratch, "key", None) != key:
            kind = torch.float64 if self.dtype is np.float64 else torch.float32
            _scratch.block = torch.empty(key[0], dtype=kind, device="cpu").numpy()
            _scratch.key = key
        block: np.ndarray = _scratch.block[: rows * stride].reshape(rows, stride)[:, :width]
        return block

    def pick(self, index: np.ndarray) -> Rows:
        """Return the rows named by `index`."""
        if self.addresses is not None:
            # Where rows are read by address, the vectors only keep the memory alive.
            return self._replace(n=len(index), addresses=self.addresses[index])
        return self._replace(n=len(index), vectors=[self.vectors[i] for i in index])

    def at(self, offset: int, whole: int) -> Rows:
        """Return the same rows, known to start at column `offset` of a matrix with `whole` columns."""
        return self._replace(offset=offset, whole=whole)

    @property
    def span(self) -> Span:
        """The columns that these rows hold."""
        return Span(self.offset, self.offset + self.d)

    def like(self, rows: int, width: int) -> Array:
        """Return an uninitialised (rows, width) array of the rows' library and the dtype computed in."""
        if self.host:
            return np.empty((rows, width), self.dtype)
        xp = array_api_compat.array_namespace(self.vectors[0])
        return xp.empty((rows, width), dtype=self.dtype, device=self.template.device)

    def _slices(self, span: Span) -> list[Array]:
        return [vector[span.lo - self.offset : span.hi - self.offset] for vector in self.vectors]

    def _stacked(self, span: Span, spare: int) -> Array:
        xp = array_api_compat.array_namespace(self.vectors[0])
        block = xp.stack([xp.astype(piece, self.dtype) for piece in self._slices(span)])
        if spare:
            pad = xp.zeros((spare, span.width), dtype=self.dtype, device=self.template.device)
            block = xp.concat([block, pad])
        return block
