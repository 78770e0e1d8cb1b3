"""The form of a vector and its norm, found without running any code of whoever made it.

What a node answers may be of a class of its own, with methods that raise, lie or never end. So only the array
underneath is looked at, through the methods of the library itself.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from byzflow.engine.actor.calls import Recorder
from byzflow.engine.actor.vec import has_memory
from byzflow.kernels.native import squared_norms

__all__ = ("Digest", "Signature", "bare", "digest_of", "is_hollow", "norm_of", "norms_of")

LARGE = 1 << 24  # bytes of a vector of any form that is fetched to be looked at
HUGE = 1 << 30  # bytes up to which a vector whose entries share memory may be laid out


@dataclass(frozen=True, slots=True)
class Signature:
    """The form of a vector: library, dtype, shape and device."""

    library: str
    dtype: str
    shape: tuple[int, ...]
    device: str = "cpu"

    def __reduce__(self) -> tuple[Any, ...]:  # a fifth of what a data class makes pickle do
        return Signature, (self.library, self.dtype, self.shape, self.device)

    @property
    def length(self) -> int:
        """Entries of a vector."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of a vector [bytes]."""
        return self.length * _itemsize(self.library, self.dtype)

    @property
    def ceiling(self) -> int:
        """Size [bytes] above which an answer is not fetched where one of this form is expected."""
        return max(LARGE, 2 * self.nbytes)


@dataclass(frozen=True, slots=True)
class Digest:
    """What is known of a vector that stayed where it was made.

    Attributes
    ----------
    signature : Signature or None
        Its form; None if it is no vector.
    norm : float
        Its Euclidean norm.
    row : object
        Stands for the vector.
    kind : str
        What it is instead, if it is no vector.
    """

    signature: Signature | None
    norm: float = 0.0
    row: Any = None
    kind: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return Digest, (self.signature, self.norm, self.row, self.kind)


def digest_of(value: Any) -> Digest:
    """Return what is known of an answer without looking at its entries; it may be anything.

    Examples
    --------
    >>> digest_of("text")
    Digest(signature=None, norm=0.0, row=None, kind='str')
    """
    if type(value) is Digest and value.row is None:  # nobody gets a vector out of a node's own
        return value
    with Recorder():
        array = bare(value)
        form = None if array is None else _form(array)
        if form is not None:
            return Digest(form, row=array)
        return Digest(None, kind=_kind(value))
    return Digest(None, kind="something that cannot be looked at")


def bare(value: Any) -> Any:
    """Return the array under a tensor or array, without autograd and subclass; None for anything else.

    Entries are not copied.

    Examples
    --------
    >>> bare(torch.ones(2, requires_grad=True))
    tensor([1., 1.])
    >>> bare([1.0, 1.0]) is None
    True
    """
    kind = type(value)
    if kind is torch.Tensor and not (value.requires_grad or value.is_neg() or value.__dict__):
        return value
    if issubclass(kind, torch.Tensor):
        if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
            return None
        with torch._C.DisableTorchFunctionSubclass():
            array = torch.Tensor.as_subclass(torch.Tensor.detach(value), torch.Tensor)
        return array.resolve_neg() if array.is_neg() and has_memory(array) else array
    if issubclass(kind, np.ndarray):
        numbers: np.ndarray = np.ndarray.view(value, np.ndarray)
        return numbers if numbers.dtype.isnative else numbers.astype(numbers.dtype.newbyteorder("="))
    cupy = sys.modules.get("cupy")
    return value if cupy is not None and kind is cupy.ndarray else None


def norm_of(vector: Any) -> float:
    """Return the Euclidean norm of a vector [float64]; NaN or inf only if an entry is not finite.

    Examples
    --------
    >>> norm_of(np.array([3.0, 4.0]))
    5.0
    >>> norm_of(torch.tensor([1e38, 1e38])) < float("inf")
    True
    """
    if isinstance(vector, torch.Tensor):
        flat = vector.detach().reshape(-1)
        if flat.is_cpu:
            return norms_of(_numbers(flat)[None])[0]
        quick = flat if flat.is_floating_point() and flat.element_size() >= 4 else flat.to(torch.float32)
        norm = float(torch.dot(quick, quick)) ** 0.5 if flat.numel() else 0.0
        if math.isfinite(norm) or not bool(torch.isfinite(flat).all()):
            return norm if math.isfinite(norm) else math.inf
        return float(torch.linalg.vector_norm(flat.to(torch.float64)))
    host = vector.get() if hasattr(vector, "get") else vector
    return norms_of(host.reshape(1, -1))[0]


def norms_of(matrix: Any) -> list[float]:
    """Return the norm of each row of a NumPy or torch matrix on the CPU, whatever rows are beside it.

    Examples
    --------
    >>> norms_of(np.array([[3.0, 4.0], [0.0, np.nan]]))
    [5.0, inf]
    """
    rows = _numbers(matrix)
    rows = rows if rows.ndim == 2 else rows.reshape(len(rows), -1)
    squares = np.empty(len(rows))
    squared_norms(rows if rows.flags.carray else np.require(rows, requirements=("C", "W")), squares)
    norms: list[float] = np.sqrt(squares).tolist()
    if not math.isfinite(squares.sum() if len(norms) > 1 else norms[0]):
        norms = [n if math.isfinite(n) else _careful_norm(row) for n, row in zip(norms, rows, strict=True)]
    return norms


def _numbers(array: Any) -> Any:
    """Return a NumPy or torch array as a NumPy one of float32 or float64."""
    if isinstance(array, torch.Tensor):
        return (array if array.dtype in (torch.float32, torch.float64) else array.to(torch.float64)).numpy()
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _careful_norm(flat: Any) -> float:
    """Return the norm of a vector whose squares may be too large; inf if an entry is not finite."""
    if not bool(np.isfinite(flat).all()):
        return math.inf
    scale = float(np.abs(flat).max())
    return scale * float(np.linalg.norm(flat.astype(np.float64) / scale))


def _form(array: Any) -> Signature | None:
    if isinstance(array, torch.Tensor):
        is_plain = array.layout is torch.strided and not (array.is_nested or array.is_quantized)
        is_real = is_plain and not array.is_complex() and array.dtype is not torch.bool
        if not is_real or array.is_meta or is_hollow(array.shape, array.stride(), array.element_size()):
            return None
        if not has_memory(array):
            return None
        return _torch_form(array.dtype, array.shape, array.device)
    if isinstance(array, np.ndarray):
        steps = [stride / array.itemsize for stride in array.strides] if array.itemsize else []
        if array.dtype.kind not in "fiu" or is_hollow(array.shape, steps, array.itemsize):
            return None
        return Signature("numpy", array.dtype.name, array.shape)
    return Signature("cupy", str(array.dtype), tuple(array.shape), f"cuda:{array.device.id}")


@lru_cache(maxsize=64)
def _itemsize(library: str, dtype: str) -> int:
    known = getattr(torch, dtype) if library == "torch" else np.dtype(dtype)
    return int(known.itemsize)


@lru_cache(maxsize=64)
def _torch_form(dtype: torch.dtype, shape: torch.Size, device: torch.device) -> Signature:
    return Signature("torch", str(dtype).removeprefix("torch."), tuple(shape), str(device))


def is_hollow(shape: Sequence[int], steps: Sequence[float], itemsize: int) -> bool:
    """Whether an array pretends to far more entries than it has memory for.

    Examples
    --------
    >>> is_hollow((10**12,), (0,), 4), is_hollow((3,), (1,), 4)
    (True, False)
    """
    if math.prod(shape) * itemsize <= HUGE:
        return False
    span = 1 + sum((length - 1) * abs(step) for length, step in zip(shape, steps, strict=True))
    return span < math.prod(shape)


def _kind(value: object) -> str:
    array = bare(value)
    if isinstance(array, torch.Tensor):
        where = " on meta" if array.is_meta else ""
        if not where and array.layout is torch.strided and not has_memory(array):
            where = " without memory"
        return f"a {array.layout} tensor of {array.dtype}{where}"
    if isinstance(array, np.ndarray):
        return f"an array of {array.dtype}"[:200]
    return " ".join(type.__getattribute__(type(value), "__name__").split())[:200]
