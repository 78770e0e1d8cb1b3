"""From a sequence of vectors to an (n, d) matrix that is read block by block, and back to the caller's type.

What belongs here: which inputs are accepted, and the dtype, device and shape of the answer. The first
vector is the template; the others are cast to it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import array_api_compat
import numpy as np
import torch

from byzflow.kernels import native
from byzflow.kernels.blocks import Span, block_width, widest
from byzflow.kernels.library import from_numbers

__all__ = ("WIDE", "Array", "Rows", "Template", "as_rows", "grid_of")

Array = Any
"""A user's tensor: numpy, torch, cupy or any array that follows the array API standard."""

WIDE = 1 << 18
"""Width of a canonical block on a device, where a launch costs more than a cache miss [columns]."""

_scratch = threading.local()
_HALF = (torch.float16, torch.bfloat16)
_NATIVE: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}

_LINE = 16
"""Numbers in a cache line, if they are float32 [elements]."""

_COPIED = 1 << 15
"""Vectors that hold fewer numbers than this together are copied rather than read in place [elements]."""


@dataclass(frozen=True)
class Template:
    """What the answer must look like: library, dtype, device and shape of the first vector."""

    library: str
    dtype: Any
    device: Any
    shape: tuple[int, ...]

    def restore(self, flat: Array) -> Array:
        """Give a flat compute-dtype vector the template's library, dtype and shape."""
        if self.library == "numpy":
            return flat.astype(self.dtype, copy=False).reshape(self.shape)
        if self.library == "torch":
            tensor = torch.from_numpy(flat) if isinstance(flat, np.ndarray) else flat
            return (tensor if tensor.dtype == self.dtype else tensor.to(self.dtype)).reshape(self.shape)
        xp = array_api_compat.array_namespace(flat)
        return xp.reshape(xp.astype(flat, self.dtype, copy=False), self.shape)

    def _as_computed(self, flat: Array) -> bool:
        """Whether the answer is flat torch vectors of the very numbers in the NumPy array `flat`."""
        return (
            self.library == "torch"
            and isinstance(flat, np.ndarray)
            and len(self.shape) == 1
            and _NATIVE.get(self.dtype) is flat.dtype.type
        )

    def restore_rows(self, flat: Array) -> list[Array]:
        """Give the rows of a (k, d) compute-dtype array the template's library, dtype and shape.

        Small tensors share one storage, which is ten times cheaper to make. Large ones have their own:
        pickle takes a storage whole.
        """
        k, d = flat.shape
        if k == 1:
            return [self.restore(flat)]
        if k * d > _COPIED and self._as_computed(flat):
            return list(map(torch.from_numpy, flat))
        if self.library != "torch" or k * d > _COPIED:
            return [self.restore(flat[i, :]) for i in range(k)]
        whole = torch.from_numpy(flat) if isinstance(flat, np.ndarray) else flat
        return list(whole.to(self.dtype).reshape(k, *self.shape).unbind())


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

    def empty(self, rows: int, width: int) -> np.ndarray:
        """Return an uninitialised (rows, width) block in this thread's scratch memory, cache-line aligned."""
        # Narrow blocks lie close together: rows whole pages apart would share a few lines of the cache.
        stride = -(-width // _LINE) * _LINE
        key = (rows * max(self.width, stride), self.dtype)
        if getattr(_scratch, "key", None) != key:
            kind = torch.float64 if self.dtype is np.float64 else torch.float32
            _scratch.block = torch.empty(key[0], dtype=kind).numpy()
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

    def output(self, rows: int) -> Array:
        """Return an uninitialised (rows, d) array for the answer, in the dtype that is computed in."""
        return self.like(rows, self.d)

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


def grid_of(sample: Array, d: int) -> int:
    """Return `Rows.grid` of rows of d columns of the library and device of the array `sample`."""
    return as_rows([array_api_compat.array_namespace(sample).reshape(sample, (-1,))]).at(0, d).grid


def as_rows(vectors: Any, extra: Sequence[Array] = ()) -> Rows:
    """Accept a sequence of n equally shaped vectors, or a stacked array, as rows.

    Parameters
    ----------
    vectors : sequence of Array, or Array of shape (n, ...)
        At least one vector; any rank. Lists of Python numbers become float64 vectors
        of the library that `byzflow.configs.backend` chose, by default NumPy.
    extra : sequence of Array
        Further rows, cast to the first vector.

    Raises
    ------
    ValueError
        If there is no vector, or shapes differ.
    TypeError
        If the input is no sequence of real arrays.

    Examples
    --------
    >>> rows = as_rows([np.ones(3), np.zeros(3)])
    >>> rows.n, rows.d
    (2, 3)
    """
    if isinstance(vectors, (torch.Tensor, np.ndarray)) or hasattr(vectors, "__array_namespace__"):
        if vectors.ndim < 2:
            raise ValueError(
                f"A stacked input needs shape (n, ...) with one row for each node; got shape "
                f"{tuple(vectors.shape)}. Pass a list of vectors, or an array of rank 2 or more."
            )
        vectors = [vectors[i, ...] for i in range(vectors.shape[0])]
    elif not isinstance(vectors, (list, tuple)):
        if not isinstance(vectors, Sequence) or isinstance(vectors, (str, bytes)):
            raise TypeError(
                f"Vectors must come as a list or tuple of arrays, or one stacked array; got "
                f"{type(vectors).__name__}. Wrap them in a list."
            )
        vectors = list(vectors)
    if len(vectors) == 0:
        raise ValueError("At least one vector is required; got an empty sequence. Pass one vector per node.")
    first = _array(vectors[0])
    items = vectors if first is vectors[0] and not extra else [first, *vectors[1:], *extra]
    if isinstance(first, torch.Tensor):
        return _torch_rows(items)
    if isinstance(first, np.ndarray):
        return _numpy_rows(items)
    return _namespace_rows(items)


def _array(value: Any) -> Array:
    if isinstance(value, (torch.Tensor, np.ndarray)) or hasattr(value, "__array_namespace__"):
        return value
    if array_api_compat.is_array_api_obj(value):
        return value
    return from_numbers(value)


def _shapes_differ(index: int, expected: tuple[int, ...], got: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"All vectors must have the same shape; vector 0 has shape {expected}, vector {index} has shape "
        f"{got}. Flatten or pad them to one shape."
    )


def _stack_rows(items: Sequence[Array]) -> Rows | None:
    """Copy small vectors of one kind into one matrix, which is cheaper than to look at each; else None."""
    first, n = items[0], len(items)
    dtype, d = first.dtype, first.numel()
    if dtype not in _NATIVE or not first.is_cpu or n * d > _COPIED:
        return None
    try:
        X = torch.stack(items)  # type: ignore[arg-type]  # any sequence will do
    except (RuntimeError, TypeError):
        return None
    if X.dtype != dtype:
        return None
    if X.requires_grad:
        X = X.detach()
    if X.dim() != 2:
        X = X.reshape(n, d)
    addresses = _steps(n, d * X.element_size()) + X.data_ptr()
    return Rows(
        X, Template("torch", dtype, first.device, tuple(first.shape)), n, d, _NATIVE[dtype], addresses, True
    )


@lru_cache(maxsize=64)
def _steps(n: int, step: int) -> np.ndarray:
    """Return how far each of n rows is from the first [bytes]."""
    return np.arange(n, dtype=np.uintp) * np.uintp(step)


def _torch_rows(items: Sequence[Array]) -> Rows:
    first = items[0]
    if (stacked := _stack_rows(items)) is not None:
        return stacked
    shape, dtype, device = first.shape, first.dtype, first.device
    if dtype.is_complex:
        raise TypeError(f"Vectors must hold real numbers; got {dtype}. Pass real and imaginary parts apart.")
    result = dtype if dtype.is_floating_point else torch.get_default_dtype()
    compute = torch.float64 if not dtype.is_floating_point or dtype == torch.float64 else torch.float32
    keep = compute if compute == dtype or dtype not in _HALF else dtype
    vectors = []
    for index, item in enumerate(items):
        tensor = item if isinstance(item, torch.Tensor) else torch.as_tensor(np.asarray(_array(item)))
        if tensor.shape != shape:
            raise _shapes_differ(index, tuple(shape), tuple(tensor.shape))
        if tensor.requires_grad:
            tensor = tensor.detach()
        if tensor.dtype != keep or tensor.device != device:
            tensor = tensor.to(device=device, dtype=keep)
        vectors.append(
            tensor if tensor.dim() == 1 and tensor.is_contiguous() else tensor.reshape(-1).contiguous()
        )
    template = Template("torch", result, device, tuple(shape))
    host = device.type == "cpu"
    addresses = None
    if host and keep == compute:
        addresses = np.array([tensor.data_ptr() for tensor in vectors], np.uintp)
    kind: Any = (np.float64 if compute == torch.float64 else np.float32) if host else compute
    return Rows(tuple(vectors), template, len(vectors), vectors[0].numel(), kind, addresses, host)


def _numpy_rows(items: Sequence[Array]) -> Rows:
    first = items[0]
    shape, dtype = first.shape, first.dtype
    if dtype.kind not in "fiub":
        raise TypeError(f"Vectors must hold real numbers; got {dtype}. Convert them to float32 or float64.")
    result = dtype if dtype.kind == "f" else np.dtype(np.float64)
    compute = np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64
    vectors = []
    for index, item in enumerate(items):
        array = item if isinstance(item, np.ndarray) else np.asarray(item)
        if array.shape != shape:
            raise _shapes_differ(index, shape, array.shape)
        vectors.append(np.ascontiguousarray(array, compute).reshape(-1))
    template = Template("numpy", result, None, shape)
    addresses = np.array([array.__array_interface__["data"][0] for array in vectors], np.uintp)
    return Rows(tuple(vectors), template, len(vectors), vectors[0].size, compute, addresses, True)


def _namespace_rows(items: Sequence[Array]) -> Rows:
    first = items[0]
    xp = array_api_compat.array_namespace(first)
    if not xp.isdtype(first.dtype, "real floating"):
        raise TypeError(f"Vectors must hold real floating numbers; got {first.dtype}. Convert them first.")
    compute = xp.float64 if first.dtype == xp.float64 else xp.float32
    device = array_api_compat.device(first)
    vectors = []
    for index, item in enumerate(items):
        array = item if array_api_compat.is_array_api_obj(item) else xp.asarray(item)
        if tuple(array.shape) != tuple(first.shape):
            raise _shapes_differ(index, tuple(first.shape), tuple(array.shape))
        vectors.append(xp.reshape(xp.astype(array, first.dtype, copy=False), (-1,)))
    template = Template("array", first.dtype, device, tuple(first.shape))
    return Rows(tuple(vectors), template, len(vectors), int(vectors[0].shape[0]), compute, None, False)
