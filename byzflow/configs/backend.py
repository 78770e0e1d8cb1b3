"""The array library that rules answer in when they get lists of Python numbers.

Rows that are arrays decide for themselves: NumPy in, NumPy out; torch in, torch out. A list of numbers has
no library, and becomes a NumPy array unless another is chosen here. The choice holds in this task or thread
and in the tasks it starts, not in worker processes: what goes there had better be arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import array_api_compat.numpy
import array_api_compat.torch
import numpy as np
import torch

from byzflow.kernels.library import CHOSEN

__all__ = ("get_backend", "set_backend", "use_backend")

_NAMED = {
    "numpy": array_api_compat.numpy,
    "pytorch": array_api_compat.torch,
    "torch": array_api_compat.torch,
}


def get_backend() -> Any:
    """Return the array API namespace of the library that is chosen.

    Examples
    --------
    >>> get_backend().__name__
    'array_api_compat.numpy'
    """
    return CHOSEN.get()


def set_backend(backend: Any) -> None:
    """Choose the library from here on.

    Parameters
    ----------
    backend : {"numpy", "torch", "pytorch"} or namespace
        A name, or the namespace of any library that follows the array API standard.

    Raises
    ------
    ValueError
        If a string is none of the names.
    TypeError
        If it is neither a string nor a namespace.

    Examples
    --------
    >>> set_backend("numpy")
    """
    CHOSEN.set(_namespace(backend))


@contextmanager
def use_backend(backend: Any) -> Iterator[Any]:
    """Choose the library for the block only, and give its namespace.

    Raises
    ------
    ValueError, TypeError
        As `set_backend`.

    Examples
    --------
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> with use_backend("torch"):
    ...     CoordinateWiseMedian().aggregate([[1.0, 2.0], [3.0, 1.0], [5.0, 9.0]])
    tensor([3., 2.], dtype=torch.float64)
    """
    token = CHOSEN.set(_namespace(backend))
    try:
        yield CHOSEN.get()
    finally:
        CHOSEN.reset(token)


def _namespace(backend: Any) -> Any:
    if isinstance(backend, str):
        if backend not in _NAMED:
            raise ValueError(
                f"backend must be one of {', '.join(_NAMED)}, or an array namespace; got {backend!r}. "
                f"Pass the namespace itself for another library."
            )
        return _NAMED[backend]
    if backend in (torch, np):
        return _NAMED[backend.__name__]
    if hasattr(backend, "__array_api_version__") and callable(getattr(backend, "asarray", None)):
        return backend
    raise TypeError(
        f"backend must be a name or a namespace of the array API standard; got {type(backend).__name__}. "
        f"Pass one of {', '.join(_NAMED)}."
    )
