"""Names that programs written for the reference import; byzflow's own settings are in ``dask.config``."""

from __future__ import annotations

__all__ = ()
