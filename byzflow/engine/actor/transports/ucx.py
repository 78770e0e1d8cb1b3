"""Whether this machine can speak UCX."""

from __future__ import annotations

import importlib.util

__all__ = ("have_ucx",)


def have_ucx() -> bool:
    """Whether the package that lets Dask speak UCX is installed.

    Examples
    --------
    >>> isinstance(have_ucx(), bool)
    True
    """
    return importlib.util.find_spec("distributed_ucxx") is not None
