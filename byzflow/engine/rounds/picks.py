"""Rows of one arena that many nodes are shown, as numbers: who is shown which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from byzflow.engine.actor.stack import Stack, stacked
from byzflow.engine.actor.sweeps import part_of
from byzflow.engine.listed import Listed
from byzflow.engine.rounds.arena import RowRef
from byzflow.engine.rounds.sites import Site, copies, gathered, spaced
from byzflow.kernels.sheets import Sheets

__all__ = ("Picked", "Picks", "Places", "picked", "placed", "sheets_of")


class Places(Listed[RowRef]):
    """Rows of one arena.

    Examples
    --------
    >>> from byzflow.engine.rounds.arena import Arena
    >>> from byzflow.engine.rounds.forms import Signature
    >>> places = Places(Arena(3, Signature("numpy", "float32", (2,))).site, [2, 0])
    >>> [place.row for place in places], len(places.part([1]))
    ([2, 0], 1)
    """

    __slots__ = ("_stack", "rows", "site")

    def __init__(self, site: Site, rows: Sequence[int]) -> None:
        self.site, self.rows = site, rows
        self._stack: Stack | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Places, (self.site, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, position: int) -> RowRef:
        """Return one of the rows."""
        return RowRef(self.site, self.rows[position])

    def part(self, positions: Sequence[int]) -> Places:
        """Return the rows at some positions."""
        return Places(self.site, part_of(self.rows, positions))

    def stack(self) -> Stack:
        """Return the vectors as a stack that comes as a list, the same one each time."""
        if self._stack is None:
            self._stack = Stack(gathered(self.site, self.rows), list)
        return self._stack


class Picked(Listed[Any]):
    """What one node is shown: a row of its own, and a list of others."""

    __slots__ = ("rows", "site")

    def __init__(self, site: Site, rows: Sequence[int]) -> None:
        self.site, self.rows = site, rows

    def __len__(self) -> int:
        return 2

    def item(self, position: int) -> RowRef | list[RowRef]:
        """Return the node's own row (0), or the others (1)."""
        own, *others = Places(self.site, self.rows)
        return others if position else own

    def copies(self) -> list[Any]:
        """Return the same as vectors of the node's own."""
        own, *others = copies(self.site, self.rows)
        return [own, others]


class Picks(Listed[Picked]):
    """What many nodes are shown.

    Parameters
    ----------
    site : Site
        The arena.
    rows : sequence of sequence of int
        For each node the number of its own row, then those of the others.
    """

    __slots__ = ("rows", "site")

    def __init__(self, site: Site, rows: Sequence[Sequence[int]]) -> None:
        self.site, self.rows = site, rows

    def __reduce__(self) -> tuple[Any, ...]:
        return Picks, (self.site, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Picked]:
        return (Picked(self.site, rows) for rows in self.rows)

    def item(self, position: int) -> Picked:
        """Return what one of the nodes is shown."""
        return Picked(self.site, self.rows[position])

    def part(self, positions: Sequence[int]) -> Picks:
        """Return what the nodes at some positions are shown."""
        return Picks(self.site, part_of(self.rows, positions))


def picked(shown: Sequence[tuple[Any, Sequence[Any]]]) -> Sequence[Sequence[Any]]:
    """Return what nodes are shown, a vector of their own and others each, as `Picks` if all is in one arena.

    Examples
    --------
    >>> picked([("no", ["rows"])])
    [('no', ['rows'])]
    """
    whole = [(own, *others) for own, others in shown]
    site = _site_of(chain.from_iterable(whole))
    return shown if site is None else Picks(site, [_numbers(vectors) for vectors in whole])


def placed(vectors: Sequence[Any]) -> Sequence[Any] | Stack:
    """Return vectors as `Places`, if all lie in rows of one arena, or as a `Stack`, if they can be stacked.

    Examples
    --------
    >>> placed(["no", "rows"]), placed([np.zeros(1), np.ones(1)]).rows()
    (['no', 'rows'], [array([0.]), array([1.])])
    """
    site = _site_of(vectors)
    return stacked(vectors) if site is None else Places(site, _numbers(vectors))


def sheets_of(rows: Sequence[RowRef]) -> Sequence[Any]:
    """Return the vectors that lie in rows, flat, to be read only: as `Sheets`, if they are in one arena.

    These have what lies behind each row at its end.

    Examples
    --------
    >>> from byzflow.engine.rounds.arena import Arena
    >>> from byzflow.engine.rounds.forms import Signature
    >>> arena = Arena(3, Signature("numpy", "float32", (2,)))
    >>> sheets_of(Places(arena.site, [2, 0]))[1][:2]
    array([0., 0.], dtype=float32)
    """
    site = _site_of(rows)
    sheets = None if site is None else Sheets([spaced(site)], np.array(_numbers(rows)))
    return sheets if sheets is not None and sheets.is_readable else [row.flat() for row in rows]


def _site_of(vectors: Iterable[Any]) -> Site | None:
    """Return the one arena in the rows of which all vectors lie, if there is one."""
    site = None
    for vector in vectors:
        if type(vector) is not RowRef or vector.site is not (site := site or vector.site):
            return None
    return site


def _numbers(rows: Iterable[RowRef]) -> tuple[int, ...]:
    return tuple([row.row for row in rows])
