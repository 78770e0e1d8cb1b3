"""Vectors that stay where they were made: put into shared memory, or too large to be sent, and described."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from byzflow.engine.actor.calls import is_awaitable
from byzflow.engine.rounds.arena import RowRef
from byzflow.engine.rounds.forms import Digest, digest_of, norm_of

__all__ = ("brief", "hold")


def brief(answer: Any, most: int) -> Any:
    """Return an answer that is harmless, or of a vector of more than `most` bytes what is known of it.

    Examples
    --------
    >>> import numpy as np
    >>> brief(1.5, 8), brief(np.ones(2), 8).signature.shape
    (1.5, (2,))
    """
    if answer is None:
        return None
    size = getattr(answer, "nbytes", None)
    if size is not None:
        return answer if size <= most else Digest(digest_of(answer).signature)
    return _brief_later(answer, most) if is_awaitable(answer) else answer


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


async def _brief_later(answer: Awaitable[Any], most: int) -> Any:
    return brief(await answer, most)
