"""A vector that stays where it was made: put into an arena, and described to whoever asked for it."""

from __future__ import annotations

from typing import Any

from byzflow.engine.node.arena import Arena, RowRef
from byzflow.engine.node.forms import Digest, digest_of, norm_of

__all__ = ("hold",)


def hold(value: Any, arena: str, row: int) -> Digest:
    """Copy a vector into a row of an arena, if it fits there, and return what is known of it."""
    digest = digest_of(value)
    if digest.signature is None:
        return digest
    if not arena:
        return Digest(digest.signature, norm_of(digest.row))
    place = Arena.here(arena)
    if digest.signature != place.site.signature:
        return Digest(digest.signature, norm_of(digest.row))
    place.write(row, digest.row)
    return Digest(digest.signature, norm_of(digest.row), RowRef(place.site, row))
