"""Order statistics in compiled loops; numba's own sort takes seconds to compile wherever it is called."""

from __future__ import annotations

from typing import Any

from byzflow.kernels.native.loops import loop

__all__ = ("nth",)


@loop()
def nth(values: Any, k: int) -> Any:
    """Return the value that has k smaller ones before it in order (Hoare's find); `values` are moved about.

    Examples
    --------
    >>> import numpy as np
    >>> nth(np.array([3.0, 1.0, 2.0]), 1)
    2.0
    """
    first, last = 0, values.shape[0] - 1
    while first < last:
        pivot = values[(first + last) // 2]
        i, j = first, last
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if j < k:
            first = i
        if k < i:
            last = j
    return values[k]
