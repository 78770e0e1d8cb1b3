"""Vectors shown to many nodes of this process, copied once instead of once for each node."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from byzflow.engine.actor.stack import Stack, stacked
from byzflow.engine.rounds.arena import Arena, RowRef
from byzflow.engine.rounds.forms import digest_of
from byzflow.engine.rounds.panes import forget
from byzflow.engine.rounds.showing import COPIED
from byzflow.engine.rounds.sites import shareable

__all__ = ("Gallery",)

LARGE = 1 << 20  # bytes of all vectors from which mapping them costs less than another copy


class Gallery:
    """Hangs vectors where each node sees pages of its own as soon as it writes to them.

    What hangs is replaced by the next call of `hang`.

    Examples
    --------
    >>> import numpy as np
    >>> gallery = Gallery()
    >>> asyncio.run(gallery.hang((np.ones(2), np.zeros(2)), viewers=5)).matrix.shape
    (2, 2)
    >>> large = (np.ones(1 << 20),)
    >>> asyncio.run(gallery.hang(large, viewers=5))[0].open()[:2]
    array([1., 1.])
    >>> gallery.close()
    """

    def __init__(self) -> None:
        self._arena: Arena | None = None

    async def hang(self, vectors: Sequence[Any], viewers: int) -> Sequence[Any] | Stack:
        """Return what to show: references, or the vectors if a copy for each viewer costs less.

        Small ones are in one stack, so that they are copied at once.

        Parameters
        ----------
        vectors : sequence of array
            All of one form.
        viewers : int
            How many nodes will look at them.
        """
        form = digest_of(vectors[0]).signature if vectors else None
        if form is not None and form.nbytes <= COPIED:
            return stacked(vectors)
        if viewers < 2:
            return vectors
        size = sum(int(vector.nbytes) for vector in vectors)
        if form is None or not shareable(form) or size < LARGE:
            return vectors
        arena = self._arena
        if arena is None or arena.site.signature != form or arena.site.rows < len(vectors):
            self.close()
            arena = self._arena = Arena(len(vectors), form)
        write = arena.write
        await asyncio.gather(*(asyncio.to_thread(write, row, vector) for row, vector in enumerate(vectors)))
        return tuple(RowRef(arena.site, row) for row in range(len(vectors)))

    def close(self) -> None:
        """Let go of the memory; nodes keep what they took."""
        if self._arena is not None:
            forget([self._arena.site])
        self._arena = None
