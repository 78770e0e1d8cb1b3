"""A vector that stays where it was made: put into shared memory, and described to whoever asked for it."""

from __future__ import annotations

from typing import Any

from byzflow.engine.node.arena import RowRef
from byzflow.engine.node.forms import Digest, digest_of, norm_of

__all__ = ("hold",)


def hold(value: Any, place: RowRef | None) -> Digest:
    """Copy a vector into a row of an arena, if it fits there, and return what is known of it.

    Without a row, nobody asks for more than its form.
    """
    digest = digest_of(value)
    if digest.signature is None or place is None:
        return Digest(digest.signature, kind=digest.kind)
    if digest.signature != place.site.signature:
        return Digest(digest.signature, norm_of(digest.row))
    place.write(0, digest.signature.length, digest.row.reshape(-1))
    return Digest(digest.signature, norm_of(digest.row), place)
