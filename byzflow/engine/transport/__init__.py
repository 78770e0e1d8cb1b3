"""How plain messages get from one function to another: prototypes of the reference."""

from __future__ import annotations

__all__ = ()
