"""How loops are compiled: once for all where their machine code may be kept, else in each process anew."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

from numba import njit

__all__ = ("loop",)

F = TypeVar("F", bound=Callable[..., Any])


def loop(**options: Any) -> Callable[[F], F]:
    """Return a decorator that compiles a loop when it is first called, to run without the interpreter's lock.

    Parameters
    ----------
    **options
        For `numba.njit`, beside ``nogil`` and ``cache``.

    Examples
    --------
    >>> @loop()
    ... def total(n):
    ...     return sum(range(n))
    >>> total(4)
    6
    """

    def compiled(function: F) -> F:
        try:
            return cast(F, njit(nogil=True, cache=True, **options)(function))
        except RuntimeError:  # numba says so where it may write nowhere, as in a container that is read-only
            _warn()
            return cast(F, njit(nogil=True, **options)(function))

    return compiled


@cache
def _warn() -> None:
    warnings.warn(
        "byzflow compiles its loops in each process anew, which takes seconds for most rules: numba needs a "
        "folder to keep them, and neither byzflow's own nor the user's cache may be written. "
        "Set NUMBA_CACHE_DIR to one that may.",
        RuntimeWarning,
        stacklevel=4,
    )
