"""What an answer must look like, and how it is made so.

The first vector is the template; the others are cast to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import array_api_compat
import numpy as np
import torch

__all__ = ("COMPUTED", "SMALL", "Array", "Template")

Array = Any
"""A user's tensor: numpy, torch, cupy or any array that follows the array API standard."""

COMPUTED: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}
"""The dtypes of torch that are computed in as they are."""

SMALL = 1 << 15
"""Vectors that hold fewer numbers than this together share storage, on their way in and out [elements]."""


@dataclass(frozen=True)
class Template:
    """What the answer must look like: library, dtype, device and shape of the first vector."""

    library: str
    dtype: Any
    device: Any
    shape: tuple[int, ...]

    def restore(self, flat: Array) -> Array:
        """Give a compute-dtype vector the template's library, dtype and shape."""
        if self.library == "torch":
            tensor = torch.from_numpy(flat) if isinstance(flat, np.ndarray) else flat
            tensor = tensor if tensor.dtype is self.dtype else tensor.to(self.dtype)
            return tensor if len(self.shape) == 1 else tensor.reshape(self.shape)
        if self.library == "numpy":
            return flat.astype(self.dtype, copy=False).reshape(self.shape)
        xp = array_api_compat.array_namespace(flat)
        return xp.reshape(xp.astype(flat, self.dtype, copy=False), self.shape)

    def restore_matrix(self, flat: Array) -> Array:
        """Give a (k, d) compute-dtype array the template's library and dtype, and its rows the shape."""
        return replace(self, shape=(flat.shape[0], *self.shape)).restore(flat)

    def _as_computed(self, flat: Array) -> bool:
        """Whether the answer is flat torch vectors of the very numbers in the NumPy array `flat`."""
        return (
            self.library == "torch"
            and isinstance(flat, np.ndarray)
            and len(self.shape) == 1
            and COMPUTED.get(self.dtype) is flat.dtype.type
        )

    def restore_rows(self, flat: Array) -> list[Array]:
        """Give the rows of a (k, d) compute-dtype array the template's library, dtype and shape.

        Small tensors share one storage, which is ten times cheaper to make. Large ones have their own:
        pickle takes a storage whole.
        """
        k, d = flat.shape
        if k == 1:
            return [self.restore(flat[0, :])]
        if k * d > SMALL and self._as_computed(flat):
            return list(map(torch.from_numpy, flat))
        if self.library != "torch" or k * d > SMALL or not self.shape:
            return [self.restore(flat[i, :]) for i in range(k)]
        flat = flat.reshape(-1)
        whole = torch.from_numpy(flat) if isinstance(flat, np.ndarray) else flat
        whole = whole if whole.dtype is self.dtype else whole.to(self.dtype)
        if len(self.shape) > 1:
            whole = whole.reshape(k * self.shape[0], *self.shape[1:])
        # Unlike views of one tensor, these are tensors of their own, and cheaper to make.
        return list(whole.unsafe_split_with_sizes([self.shape[0]] * k))
