"""Which inputs are accepted as n rows, of any library; what a block of them is belongs to `kernels.rows`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import array_api_compat
import numpy as np
import torch

from byzflow.kernels.library import from_numbers
from byzflow.kernels.rows import Rows
from byzflow.kernels.sheets import Sheets
from byzflow.kernels.template import COMPUTED, SMALL, Array, Template

__all__ = ("as_array", "as_rows", "grid_of", "listed")

_ADDRESS, _HALF = np.dtype(np.uintp), (torch.float16, torch.bfloat16)

_plain: Any = getattr(torch._C, "_AutoDispatchBelowAutograd", nullcontext)
"""Let torch not ask what needs a gradient: that is a seventh of the time of a stack of small vectors."""


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
    if not isinstance(vectors, (list, tuple)):
        if (sheets := _sheets(vectors)) is not None and not extra:
            return _sheet_rows(sheets)
        vectors = listed(vectors)
    if len(vectors) == 0:
        raise ValueError("At least one vector is required; got an empty sequence. Pass one vector per node.")
    items = [*vectors, *extra] if extra else vectors
    if isinstance(items[0], torch.Tensor):
        return _stack_rows(items) or _torch_rows(items)
    first = as_array(items[0])
    items = items if first is items[0] else [first, *items[1:]]
    if isinstance(first, torch.Tensor):
        return _torch_rows(items)
    if isinstance(first, np.ndarray):
        return _numpy_rows(items)
    return _namespace_rows(items)


def listed(vectors: Any) -> list[Array]:
    """Return a sequence of vectors, or the rows of a stacked array of any library, as a new list.

    Raises
    ------
    ValueError
        If the array is flat.
    TypeError
        If the input is no sequence.
    """
    if isinstance(vectors, (torch.Tensor, np.ndarray)) or hasattr(vectors, "__array_namespace__"):
        if vectors.ndim < 2:
            raise ValueError(
                f"A stacked input needs shape (n, ...) with one row for each node; got shape "
                f"{tuple(vectors.shape)}. Pass a list of vectors, or an array of rank 2 or more."
            )
        return [vectors[i, ...] for i in range(vectors.shape[0])]
    if not isinstance(vectors, Sequence) or isinstance(vectors, (str, bytes)):
        raise TypeError(
            f"Vectors must come as a list or tuple of arrays, or one stacked array; got "
            f"{type(vectors).__name__}. Wrap them in a list."
        )
    return list(vectors)


def _sheets(vectors: Any) -> Sheets | None:
    """Return vectors that can be read where they lie in matrices as such; else None."""
    if not isinstance(vectors, Sheets):
        kind = type(vectors)
        if kind is torch.Tensor:
            is_plain = vectors.is_cpu and vectors.layout is torch.strided
            is_plain = is_plain and not (vectors.requires_grad or vectors.is_neg())
        else:
            is_plain = kind is np.ndarray and vectors.dtype.isnative
        if not is_plain or vectors.ndim < 2:
            return None
        vectors = Sheets((vectors,))
    return vectors if vectors.is_readable else None


def _sheet_rows(sheets: Sheets) -> Rows:
    first = sheets.matrices[0]
    if isinstance(first, torch.Tensor):
        template, d, kind, _ = _form(first.dtype, first.shape[1:])
    else:
        shape, kind = first.shape[1:], first.dtype.type
        template, d = Template("numpy", first.dtype, None, shape), math.prod(shape)
    return Rows(sheets, template, len(sheets), d, kind, sheets.addresses, True)


def grid_of(sample: Array, d: int) -> int:
    """Return `Rows.grid` of rows of d columns of the library and device of the array `sample`."""
    return as_rows([array_api_compat.array_namespace(sample).reshape(sample, (-1,))]).at(0, d).grid


def as_array(value: Any) -> Array:
    """Return `value` if it is an array of any library, else what `from_numbers` makes of it."""
    if isinstance(value, (torch.Tensor, np.ndarray)) or hasattr(value, "__array_namespace__"):
        return value
    if array_api_compat.is_array_api_obj(value):
        return value
    return from_numbers(value)


def _real(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"Vectors must hold real numbers; got {array.dtype}. Convert them to float32 or float64."
        )
    return array


def _on_host(array: Array) -> np.ndarray:
    if not isinstance(array, torch.Tensor):
        return np.asarray(array)
    # NumPy knows neither bfloat16 nor tensors that need a gradient or lie elsewhere.
    flat = _flat(0, array, array, torch.float32 if array.dtype in _HALF else array.dtype)
    return flat.cpu().numpy().reshape(array.shape)


def _shapes_differ(index: int, expected: tuple[int, ...], got: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"All vectors must have the same shape; vector 0 has shape {expected}, vector {index} has shape "
        f"{got}. Flatten or pad them to one shape."
    )


def _stack_rows(items: Sequence[Array]) -> Rows | None:
    """Copy small vectors of one kind into one matrix, which is cheaper than to look at each; else None."""
    first, n = items[0], len(items)
    dtype = first.dtype
    template, d, kind, step = _form(dtype, first.shape)
    if kind is None or n * d > SMALL or not first.is_cpu:
        return None
    try:
        # A stack of one is the vector itself, which is never written to, unless it lies scattered.
        X = _stacked(items) if n > 1 else first.resolve_neg().contiguous()
        start = X.data_ptr()  # a sparse one has none
    except (RuntimeError, TypeError):
        return None
    if X.dtype is not dtype:
        return None
    if X.requires_grad:
        X = X.detach()
    if len(template.shape) != 1:
        X = X.reshape((n, d) if n > 1 else d)
    stop = start + n * step
    addresses = np.arange(start, stop, step, dtype=_ADDRESS) if step else np.full(n, start, _ADDRESS)
    return Rows(X if n > 1 else (X,), template, n, d, kind, addresses, True)


def _stacked(items: Any) -> torch.Tensor:
    """Return tensors as the rows of a new one, which needs no gradient."""
    with _plain():
        return torch.stack(items)


@lru_cache(maxsize=64)
def _form(dtype: torch.dtype, shape: torch.Size) -> tuple[Template, int, Any, int]:
    """Return what tensors in host memory are as rows: template, d, the dtype if it is computed in, bytes."""
    template, d = Template("torch", dtype, torch.device("cpu"), tuple(shape)), shape.numel()
    return template, d, COMPUTED.get(dtype), d * dtype.itemsize


def _are_flat(items: Sequence[Array]) -> bool:
    """Whether all are flat tensors of one form, rows as they are: a third less work than to look at each."""
    first = items[0]
    shape, dtype = first.shape, first.dtype
    if dtype not in COMPUTED or first.dim() != 1:
        return False
    return all(
        type(item) is torch.Tensor
        and item.dtype is dtype
        and item.shape == shape
        and item.is_cpu
        and item.layout is torch.strided
        and not item.requires_grad
        and not item.is_neg()
        and item.is_contiguous()
        for item in items
    )


def _flat(index: int, item: Any, first: torch.Tensor, keep: torch.dtype) -> torch.Tensor:
    """Return a vector as a flat tensor like the first one, of dtype `keep`."""
    if isinstance(item, torch.Tensor):
        tensor = item
    else:
        tensor = torch.as_tensor(_real(np.asarray(as_array(item))), device="cpu")
    if tensor.shape != first.shape:
        raise _shapes_differ(index, tuple(first.shape), tuple(tensor.shape))
    if tensor.dtype.is_complex:
        raise TypeError(
            f"Vectors must hold real numbers; got {tensor.dtype}. Pass real and imaginary parts apart."
        )
    if tensor.layout is not torch.strided:
        raise TypeError(f"Vectors must be dense; got {tensor.layout}. Call to_dense() on them.")
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.is_neg():  # what is read by address must be what it says
        tensor = tensor.resolve_neg()
    if tensor.dtype != keep or tensor.device != first.device:
        tensor = tensor.to(device=first.device, dtype=keep)
    return tensor if tensor.dim() == 1 and tensor.is_contiguous() else tensor.reshape(-1).contiguous()


def _torch_rows(items: Sequence[Array]) -> Rows:
    first = items[0]
    shape, dtype, device = first.shape, first.dtype, first.device
    result = dtype if dtype.is_floating_point else torch.get_default_dtype()
    compute = torch.float64 if not dtype.is_floating_point or dtype == torch.float64 else torch.float32
    keep = compute if compute == dtype or dtype not in _HALF else dtype
    vectors = items if _are_flat(items) else [_flat(at, item, first, keep) for at, item in enumerate(items)]
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
    result = dtype if dtype.kind == "f" else np.dtype(np.float64)
    compute = np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64
    vectors = []
    for index, item in enumerate(items):
        array = item if isinstance(item, np.ndarray) else _on_host(as_array(item))
        if array.shape != shape:
            raise _shapes_differ(index, shape, array.shape)
        vectors.append(np.ascontiguousarray(_real(array), compute).reshape(-1))
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
