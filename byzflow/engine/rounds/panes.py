"""Private mappings of arenas, through which nodes see rows that they may do with what they like.

A page that a node writes becomes its own; all others stay those of the arena. To map a large row, to touch
its pages and to unmap it costs more than many rules. So a pane through which nobody has written, and of
which nobody has kept a part, serves the next node as well.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from byzflow.engine.actor.shared import TOKEN
from byzflow.engine.rounds.sites import Site, mapping, unmap, vectors_in

__all__ = ("Pane", "forget")

IDLE = 2  # panes that wait for the next node; more are of no use where one or two threads call nodes
LARGE = 1 << 30  # [bytes] of an arena, above which none waits: what is mapped counts as a process's memory
PAGE = mmap.PAGESIZE
PAGEMAP = Path("/proc/self/pagemap")  # a number for each page
PRESENT, SWAPPED, FILE = (np.uint64(1 << bit) for bit in (63, 62, 61))


class Pane:
    """One private mapping of an arena, for one node at a time.

    Parameters
    ----------
    site : Site
        The arena.

    Examples
    --------
    >>> from byzflow.engine.rounds.arena import Arena
    >>> from byzflow.engine.rounds.forms import Signature
    >>> arena = Arena(1, Signature("numpy", "float32", (3,)))
    >>> pane = Pane.lent(arena.site)
    >>> seen = pane.open(0)
    >>> seen[0] = 7.0
    >>> pane.give_back()
    >>> arena.write(0, np.ones(3, dtype=np.float32))
    >>> seen, Pane.lent(arena.site).open(0)
    (array([7., 0., 0.], dtype=float32), array([1., 1., 1.], dtype=float32))
    """

    _lock = threading.Lock()
    _idle: ClassVar[list[Pane]] = []

    def __init__(self, site: Site) -> None:
        self.site = site
        self._memory = mapping(site, mmap.ACCESS_COPY, 0, TOKEN + site.size)
        self._views: dict[int, weakref.ref[ctypes.Array[ctypes.c_char]]] = {}

    @classmethod
    def lent(cls, site: Site) -> Pane:
        """Return a pane of an arena for the caller alone, until it gives it back."""
        with cls._lock:
            found = next((pane for pane in cls._idle if pane.site == site), None)
            if found is not None:
                cls._idle.remove(found)
        return found or cls(site)

    def __contains__(self, row: int) -> bool:
        """Whether a row has been opened since the pane was lent."""
        return row in self._views

    def open(self, row: int) -> Any:
        """Return a row as a vector of the receiver's own."""
        form = self.site.signature
        # Whoever keeps the vector keeps this; of a memoryview or an array NumPy keeps only what is below.
        view = (ctypes.c_char * form.nbytes).from_buffer(self._memory, TOKEN + row * self.site.pitch)
        self._views[row] = weakref.ref(view)
        return vectors_in(view, self.site, form.length, 0).reshape(form.shape)

    def give_back(self) -> None:
        """Have the pane serve others; what somebody still holds of it becomes a copy, and the pane theirs."""
        kept = [row for row, view in self._views.items() if view() is not None]
        for row in kept:
            pages = self._bytes(row)
            pages[::PAGE] = pages[::PAGE].copy()
            pages[-1:] = pages[-1:].copy()
        if kept or self.site.size > LARGE or self._is_written():
            return
        self._views.clear()
        with self._lock:
            self._idle.append(self)
            del self._idle[:-IDLE]

    def _bytes(self, first: int, last: int | None = None) -> np.ndarray:
        """Return the bytes of a row, or of some in a row."""
        pitch, end = self.site.pitch, first if last is None else last
        stop = TOKEN + end * pitch + self.site.signature.nbytes
        return np.frombuffer(self._memory, np.uint8)[TOKEN + first * pitch : stop]

    def _is_written(self) -> bool:
        """Whether a page of a row that was opened is no longer the arena's, as far as the system says."""
        try:
            with PAGEMAP.open("rb", buffering=0) as pagemap:
                for run in _runs(self._views):
                    part = self._bytes(*run)
                    first, last = part.ctypes.data // PAGE, (part.ctypes.data + part.size - 1) // PAGE
                    pagemap.seek(8 * first)
                    known = np.frombuffer(pagemap.read(8 * (last + 1 - first)), np.uint64)
                    is_own = (known & (PRESENT | SWAPPED) != 0) & (known & FILE == 0)
                    if len(known) <= last - first or is_own.any():
                        return True
        except OSError:
            return True
        return False


def _runs(rows: Collection[int]) -> list[tuple[int, int]]:
    """Return the first and the last of each run of whole numbers.

    Examples
    --------
    >>> _runs({5, 2, 3, 4, 8})
    [(2, 5), (8, 8)]
    """
    known = set(rows)
    starts = sorted(row for row in known if row - 1 not in known)
    ends = sorted(row for row in known if row + 1 not in known)
    return list(zip(starts, ends, strict=True))


def forget(sites: Collection[Site]) -> None:
    """Unmap arenas that are not used any more, and the panes of them that wait."""
    unmap(sites)
    with Pane._lock:
        Pane._idle[:] = [pane for pane in Pane._idle if pane.site not in sites]
