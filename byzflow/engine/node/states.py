"""The state of a node as bytes, and back: a node that takes it up goes on as the other would have."""

from __future__ import annotations

import io
import pickle
from typing import Any

import cloudpickle
import numpy as np
import numpy.typing as npt
import torch

__all__ = ("State", "frozen_state", "thawed_state")

State = npt.NDArray[np.uint8]
"""Bytes in an array, which travels without being copied."""

KINDS = (torch.float16, torch.float32, torch.float64, torch.int32, torch.int64, torch.uint8, torch.bool)


def frozen_state(attributes: dict[str, Any]) -> bytes:
    """Return attributes as bytes.

    Examples
    --------
    >>> thawed_state(frozen_state({"theta": torch.ones(2)}))
    {'theta': tensor([1., 1.])}
    """
    stream = io.BytesIO()
    _Pickler(stream, protocol=5).dump(attributes)
    return stream.getvalue()


def thawed_state(content: bytes) -> dict[str, Any]:
    """Return the attributes in such bytes."""
    attributes: dict[str, Any] = pickle.loads(content)
    return attributes


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Copies the entries of a plain tensor once; torch does it four times."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is torch.Tensor and _is_plain(value):
            return torch.from_numpy, (value.numpy(),)
        return super().reducer_override(value)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether the entries are all there is to a tensor."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.dtype not in KINDS:
        return False
    if tensor.requires_grad or tensor.is_neg() or tensor.__dict__ or not tensor.is_contiguous():
        return False
    return tensor.untyped_storage().nbytes() == tensor.numel() * tensor.itemsize > 0
