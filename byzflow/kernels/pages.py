"""The memory of large new arrays, made by several threads that do not get in each other's way."""

from __future__ import annotations

from typing import Any

import numpy as np

from byzflow.kernels.native.loops import loop
from byzflow.kernels.template import Array
from byzflow.kernels.threads import parallel

__all__ = ("touched",)

_PAGE = 1 << 21
"""A huge page, which the system clears when it is first written to [bytes]."""

_LARGE = 1 << 22
"""From this size on NumPy asks for huge pages [bytes]."""


def touched(out: Array) -> Array:
    """Return a new array whose pages are there; what they hold is undefined.

    Threads that write different columns of the same rows would each clear every page, for one to be kept.

    Parameters
    ----------
    out : Array
        Contiguous and not yet written to. Anything but a large NumPy array is left as it is.

    Examples
    --------
    >>> touched(np.empty((2, 3))).shape
    (2, 3)
    """
    if isinstance(out, np.ndarray) and out.nbytes >= _LARGE:
        flat = out.reshape(-1)
        step = _PAGE // out.itemsize
        parallel(lambda span: _touch(flat, span.lo, span.hi, step), 1, flat.size, step)
    return out


@loop()
def _touch(flat: Any, lo: int, hi: int, step: int) -> None:
    for i in range(lo, hi, step):
        flat[i] = 0
    if hi > lo:
        flat[hi - 1] = 0
