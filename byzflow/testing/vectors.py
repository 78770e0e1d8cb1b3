"""The rows that operators are tested on: honest ones, hostile ones, and each library's spelling of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from byzflow.exceptions import require
from byzflow.kernels.blocks import BLOCK

__all__ = ("HOSTILE", "KINDS", "as_float64", "cast", "hostile_rows", "rows", "sizes")

FloatArray = npt.NDArray[np.float64]

HOSTILE: Mapping[str, tuple[float, float]] = {
    "inf": (np.inf, np.inf),
    "minus-inf": (-np.inf, -np.inf),
    "nan": (np.nan, np.nan),
    "huge": (1e38, 1e38),
    "huge-apart": (1e38, -3e37),
    "mixed": (np.nan, np.inf),
}
"""What two Byzantine rows are filled with."""


def sizes(n: int) -> tuple[int, int, int]:
    """Return numbers of coordinates worth testing: one, a few, and three canonical blocks and a bit.

    Examples
    --------
    >>> sizes(500)
    (1, 7, 3077)
    """
    return 1, 7, 3 * BLOCK + 5


def rows(n: int, d: int, *, seed: int = 0) -> FloatArray:
    """Return (n, d) float64 rows: Gaussian noise of size 1 about a point of size 1, no two values alike.

    Examples
    --------
    >>> rows(3, 2).shape
    (3, 2)
    """
    return _drawn(n, d, seed).copy()


@lru_cache(maxsize=8)
def _drawn(n: int, d: int, seed: int) -> FloatArray:
    rng = np.random.default_rng([seed, n, d])
    drawn: FloatArray = rng.normal(size=d) + rng.normal(size=(n, d))
    return drawn.astype(np.float32).astype(np.float64)


def hostile_rows(
    n: int, d: int, kind: str, *, seed: int = 0, where: Sequence[int] | None = None, only: int | None = None
) -> FloatArray:
    """Return `rows` of which two are hostile: all their coordinates, or only one.

    Parameters
    ----------
    n, d : int
        Shape.
    kind : str
        A key of `HOSTILE`.
    seed : int, default 0
        Seed of the honest rows.
    where : sequence of int, optional
        The hostile rows; by default the second and one past the middle.
    only : int, optional
        The one hostile coordinate; by default all of them.

    Examples
    --------
    >>> hostile_rows(5, 2, "inf")[1]
    array([inf, inf])
    """
    X = rows(n, d, seed=seed)
    places = (1, n // 2 + 1) if where is None else where
    for place, value in zip(places, HOSTILE[kind], strict=False):
        X[place, slice(None) if only is None else only] = value
    return X


def _numpy(dtype: str) -> Callable[[FloatArray], list[Any]]:
    return lambda X: list(X.astype(dtype))


def _torch(dtype: torch.dtype) -> Callable[[FloatArray], list[Any]]:
    return lambda X: list(torch.from_numpy(X.copy()).to(dtype))


def _strict(dtype: str) -> Callable[[FloatArray], list[Any]]:
    def as_strict(X: FloatArray) -> list[Any]:
        xp = require("array_api_strict", extra="testing")
        return [xp.asarray(row.astype(dtype)) for row in X]

    return as_strict


KINDS: Mapping[str, tuple[Callable[[FloatArray], list[Any]], float]] = {
    "numpy-float64": (_numpy("float64"), 1.0),
    "numpy-float32": (_numpy("float32"), 1e4),
    "torch-float64": (_torch(torch.float64), 1.0),
    "torch-float32": (_torch(torch.float32), 1e4),
    "torch-float16": (_torch(torch.float16), 5e6),
    "torch-bfloat16": (_torch(torch.bfloat16), 2e7),
    "array-api-strict": (_strict("float64"), 1.0),
    "array-api-strict-float32": (_strict("float32"), 1e4),
}
"""Each library and dtype: how rows are cast to it, and the factor on an operator's float64 tolerance."""


def cast(X: FloatArray, kind: str) -> list[Any]:
    """Return the rows as a list of vectors of one library and dtype.

    Examples
    --------
    >>> cast(rows(3, 2), "torch-bfloat16")[0].dtype
    torch.bfloat16
    """
    return KINDS[kind][0](X)


def as_float64(value: Any) -> FloatArray:
    """Return any array, or a list of arrays, as one float64 array with the same values.

    Examples
    --------
    >>> as_float64([torch.ones(2), torch.zeros(2)])
    array([[1., 1.],
           [0., 0.]])
    """
    if isinstance(value, (list, tuple)):
        return np.stack([as_float64(item) for item in value])
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().to(torch.float64).numpy()
    return np.asarray(value, dtype=np.float64)
