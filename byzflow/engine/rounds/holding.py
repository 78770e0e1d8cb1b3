"""Vectors that stay where they were made: put into shared memory, or too large to be sent, and described."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from typing import Any

from byzflow.engine.actor.calls import is_awaitable
from byzflow.engine.actor.columns import gathered_by
from byzflow.engine.rounds.arena import RowRef
from byzflow.engine.rounds.forms import Digest, digest_of, norm_of
from byzflow.engine.rounds.sites import Site

__all__ = ("Held", "brief", "hold")


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
    return Digest(digest.signature, place.take(digest.row), place)


async def _brief_later(answer: Awaitable[Any], most: int) -> Any:
    return brief(await answer, most)


class Held(Mapping[int, Digest]):
    """Digests of vectors that lie in rows of one arena, in columns; each is made when it is looked at.

    Parameters
    ----------
    site : Site
        The arena.
    places : mapping of int to (int, float)
        Row and norm by position.

    Examples
    --------
    >>> from byzflow.engine.rounds.arena import Arena
    >>> from byzflow.engine.rounds.forms import Signature
    >>> arena = Arena(4, Signature("numpy", "float32", (2,)))
    >>> held = Held(arena.site, {7: (3, 1.5)})
    >>> held[7].norm, held[7].row.row, list(held)
    (1.5, 3, [7])
    """

    __slots__ = ("_places", "_site")

    def __init__(self, site: Site, places: Mapping[int, tuple[int, float]]) -> None:
        self._site, self._places = site, places

    def __reduce__(self) -> tuple[Any, ...]:
        return Held, (self._site, self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __getitem__(self, position: int) -> Digest:
        row, norm = self._places[position]
        return Digest(self._site.signature, norm, RowRef(self._site, row))


@gathered_by(Digest)
def _in_columns(digests: Mapping[int, Digest]) -> Mapping[int, Digest]:
    """Return digests as `Held`, if they are of vectors in rows of one arena."""
    sites = {getattr(digest.row, "site", None) for digest in digests.values()}
    if len(sites) > 1 or (site := sites.pop()) is None:
        return digests
    return Held(site, {position: (digest.row.row, digest.norm) for position, digest in digests.items()})
