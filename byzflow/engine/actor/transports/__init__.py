"""What can be said about the transports below Dask."""

from __future__ import annotations

__all__ = ()
