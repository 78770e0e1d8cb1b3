"""`Vec` between GPUs: Dask's "cuda" family, used by UCX. Imported only where CuPy is installed."""

from __future__ import annotations

from typing import Any

from distributed.protocol.cuda import cuda_deserialize, cuda_serialize

from byzflow.engine.actor.vec import Vec, bytes_of
from byzflow.exceptions import require

__all__ = ()


def _serialize(vec: Vec) -> tuple[dict[str, Any], list[Any]]:
    if getattr(getattr(vec.array, "device", None), "type", None) != "cuda":
        # Dask goes on to the next family ("dask") when this one says that it is not meant.
        raise NotImplementedError("The cuda family carries tensors on a GPU; this one is on the CPU.")
    cupy = require("cupy", extra="gpu")
    plain = bytes_of(vec.array.detach().contiguous())
    name = str(vec.array.dtype).removeprefix("torch.")
    return {"vec": [name, list(vec.array.shape)]}, [cupy.from_dlpack(plain)]


def _deserialize(header: dict[str, Any], frames: list[Any]) -> Vec:
    torch = require("torch", extra="gpu")
    name, shape = header["vec"]
    flat = torch.as_tensor(frames[0], device="cuda").view(torch.uint8)
    return Vec(flat.view(getattr(torch, name)).reshape(tuple(shape)))


cuda_serialize.register(Vec, _serialize)
cuda_deserialize.register(Vec, _deserialize)
