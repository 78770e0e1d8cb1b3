"""Which library's arrays Python numbers become. Arrays stay in their own library, whatever is chosen here."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import array_api_compat.numpy
import numpy as np

__all__ = ("CHOSEN", "from_numbers")

CHOSEN: ContextVar[Any] = ContextVar("byzflow.library", default=array_api_compat.numpy)
"""The array API namespace of this task or thread; `byzflow.configs.backend` sets it."""


def from_numbers(value: Any) -> Any:
    """Return Python numbers, or lists of them, as a float64 array of the chosen library.

    Raises
    ------
    TypeError
        If they are no real numbers.
    ValueError
        If nested lists differ in length.

    Examples
    --------
    >>> from_numbers([1, 2])
    array([1., 2.])
    """
    if isinstance(value, (list, tuple)) and value and getattr(value[0], "shape", ()):
        raise TypeError(
            f"A vector must be one array; got a {type(value).__name__} of {type(value[0]).__name__}. "
            "Flatten and join them, as with torch.nn.utils.parameters_to_vector()."
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            "A vector of nested lists must have lists of one length at each level; got lists that differ. "
            "Pass one vector, or pad it."
        ) from error
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"A vector must be an array of real numbers; got {type(value).__name__}. "
            f"Pass numpy or torch vectors."
        )
    array = array.astype(np.float64) if array.dtype.kind != "f" else array
    return CHOSEN.get().asarray(array)
