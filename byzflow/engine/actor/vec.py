"""The wire type: one array, NumPy or torch, as one header and one frame of raw bytes.

Dask's own torch support cannot send CUDA, bfloat16 or float8 tensors and takes each tensor for 80
bytes. A `Vec` sends all of them without a copy, and tells Dask its true size.
"""

from __future__ import annotations

import importlib.util
import pickle
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.sizeof import sizeof
from distributed.protocol.serialize import dask_deserialize, dask_serialize

__all__ = (
    "Header",
    "Vec",
    "bytes_of",
    "has_memory",
    "is_numeric",
    "is_tensor",
    "pack",
    "unpack",
    "unwrap",
    "wrap",
)

Header = tuple[str, str, tuple[int, ...], str, bool]
FEW = 1 << 14  # entries: what lies so far behind the end of a storage is most likely memory too


@dataclass(frozen=True, eq=False)
class Vec:
    """One array on its way between processes.

    Parameters
    ----------
    array : array
        A NumPy array of numbers or a dense torch tensor, of any shape. A tensor on a GPU is staged
        through the CPU and goes back to a GPU where the receiver has one.

    Examples
    --------
    >>> Vec(np.zeros(4)).nbytes
    32
    """

    array: Any

    @property
    def nbytes(self) -> int:
        """Size of the values [bytes]."""
        return int(self.array.nbytes)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        header, frame = pack(self.array)
        return _load, (header, pickle.PickleBuffer(frame) if protocol >= 5 else bytes(frame))


def is_tensor(value: Any) -> bool:
    """Whether `value` is a plain dense torch tensor; never imports torch."""
    torch = sys.modules.get("torch")
    return (
        torch is not None
        and type(value) is torch.Tensor
        and value.layout is torch.strided
        and (value.is_cpu or value.is_cuda)
        and not value.is_quantized
    )


def is_numeric(value: Any) -> bool:
    """Whether `value` is a plain NumPy array of numbers or booleans."""
    return type(value) is np.ndarray and value.dtype.kind in "biufc"


def has_memory(tensor: Any) -> bool:
    """Whether the entries of a dense torch tensor may be read; that of others ends the process.

    They lie nowhere when their storage was freed, as of sharded models, or is that of `torch.func`'s
    wrappers, and not all of them are there when it was cut. What small ones lack is not looked for.

    Raises
    ------
    RuntimeError
        By torch, if it is a wrapper that says so.

    Examples
    --------
    >>> import torch
    >>> vector = torch.ones(2)
    >>> has_memory(vector), vector.untyped_storage().resize_(0).nbytes(), has_memory(vector)
    (True, 0, False)
    """
    if not tensor.data_ptr():
        return not tensor.numel()
    if tensor.numel() <= FEW or not tensor.is_cpu:
        return True
    reach = sum((length - 1) * step for length, step in zip(tensor.shape, tensor.stride(), strict=True))
    end = tensor.storage_offset() + reach + 1
    return bool(end * tensor.element_size() <= tensor.untyped_storage().nbytes())


def pack(array: Any) -> tuple[Header, Any]:
    """Describe an array and show its bytes, copying only what is not contiguous or not on the CPU.

    They are shown as an array, not as a memoryview: where one of these has been made from another by way of a
    `pickle.PickleBuffer`, Python 3.11's garbage collector may end the process.

    Raises
    ------
    ValueError
        If it is a tensor whose memory is not there.
    """
    if isinstance(array, np.ndarray):
        flat = np.ascontiguousarray(array).reshape(-1)
        return ("numpy", array.dtype.str, array.shape, "cpu", False), flat.view(np.uint8)

    if not has_memory(array):
        raise ValueError(
            f"A tensor that is sent needs all its memory; one of shape {tuple(array.shape)} has none, or too "
            "little. Send one whose storage was not freed or cut."
        )
    plain = array
    if (
        array.requires_grad
        or array.is_conj()
        or array.is_neg()
        or not (array.is_cpu and array.is_contiguous())
    ):
        plain = array.detach().resolve_conj().resolve_neg().cpu().contiguous()
    frame = bytes_of(plain).numpy()
    name = str(array.dtype).removeprefix("torch.")
    return ("torch", name, tuple(array.shape), array.device.type, array.requires_grad), frame


def bytes_of(tensor: Any) -> Any:
    """Return the bytes of a contiguous tensor, in a row, as a tensor of them.

    Examples
    --------
    >>> import torch
    >>> bytes_of(torch.ones(2)[::2])
    tensor([  0,   0, 128,  63], dtype=torch.uint8)
    """
    import torch

    flat = tensor.reshape(-1)
    if flat.stride() != (1,):  # one entry, or none, counts as contiguous with any
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8)


def unpack(header: Header, frame: Any) -> Any:
    """Build the array that `pack` described, on top of the bytes in `frame` where they may be written."""
    library, dtype, shape, device, requires_grad = header
    view = memoryview(frame)
    if view.readonly:
        view = memoryview(bytearray(view))
    if library == "numpy":
        return np.frombuffer(view, dtype=np.dtype(dtype)).reshape(shape)
    import torch

    kind = getattr(torch, dtype)
    empty = not view.nbytes
    tensor = torch.empty(0, dtype=kind, device="cpu") if empty else torch.frombuffer(view, dtype=kind)
    tensor = tensor.reshape(tuple(shape))
    if device == "cuda" and torch.cuda.is_available():
        tensor = tensor.cuda()
    return tensor.requires_grad_() if requires_grad else tensor


def wrap(value: Any) -> Any:
    """Replace every array inside lists, tuples and dicts by a `Vec`.

    Examples
    --------
    >>> [type(part).__name__ for part in wrap([np.ones(2), "text"])]
    ['Vec', 'str']
    """
    if is_numeric(value) or is_tensor(value):
        return Vec(value)
    return _walk(wrap, value)


def unwrap(value: Any) -> Any:
    """Replace every `Vec` inside lists, tuples and dicts by its array.

    Examples
    --------
    >>> unwrap({"g": Vec(np.ones(2))})
    {'g': array([1., 1.])}
    """
    return value.array if isinstance(value, Vec) else _walk(unwrap, value)


def _walk(change: Any, value: Any) -> Any:
    kind = type(value)
    if kind is list:
        return [change(part) for part in value]
    if kind is dict:
        return {key: change(part) for key, part in value.items()}
    if isinstance(value, tuple):
        parts = [change(part) for part in value]
        if kind is tuple:
            return tuple(parts)
        return kind(*parts) if hasattr(kind, "_fields") else value
    return value


def _load(header: Header, frame: Any) -> Vec:
    return Vec(unpack(header, frame))


def _serialize(vec: Vec) -> tuple[dict[str, Any], list[memoryview]]:
    header, frame = pack(vec.array)
    return {"vec": list(header)}, [frame.data]


def _deserialize(header: dict[str, Any], frames: list[Any]) -> Vec:
    library, dtype, shape, device, requires_grad = header["vec"]
    frame = frames[0] if len(frames) == 1 else b"".join(frames)
    return _load((library, dtype, tuple(shape), device, requires_grad), frame)


def _sizeof(vec: Vec) -> int:
    return vec.nbytes + sys.getsizeof(vec)


dask_serialize.register(Vec, _serialize)
dask_deserialize.register(Vec, _deserialize)
sizeof.register(Vec, _sizeof)

if importlib.util.find_spec("cupy") is not None:
    import byzflow.engine.actor.vec_cuda  # noqa: F401  registers the device-to-device family
