"""Copies that share nothing with their originals: what one party does with them, no other notices."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

__all__ = ("isolated",)


def isolated(value: Any) -> Any:
    """Return a copy that shares no array with the original.

    Examples
    --------
    >>> original = np.zeros(2)
    >>> isolated((original,))[0][:] = 1
    >>> original
    array([0., 0.])
    """
    if type(value) is torch.Tensor and not value.requires_grad:
        return value.clone()
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, tuple | list):
        return type(value)(map(isolated, value))
    if isinstance(value, dict):
        return {key: isolated(item) for key, item in value.items()}
    return value.copy() if type(value).__module__.partition(".")[0] == "cupy" else value
