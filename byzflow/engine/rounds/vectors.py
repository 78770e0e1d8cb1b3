"""Vectors by node index, as they came: in stacks, of which none is cut out before it is looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from byzflow.kernels.sheets import Sheets

__all__ = ("Vectors", "rows_of")


class Vectors(Mapping[int, Any]):
    """Vectors of one form by node index, in node order.

    Parameters
    ----------
    parts : sequence of (sequence of int, matrix)
        Node indices, and a matrix with a row for each.
    unfit : collection of int
        Nodes whose rows do not count.

    Attributes
    ----------
    rows : Sheets
        The vectors.

    Examples
    --------
    >>> vectors = Vectors([([2, 0], np.array([[2.0], [0.0]])), ([1], np.array([[1.0]]))], unfit={1})
    >>> dict(vectors)
    {0: array([0.]), 2: array([2.])}
    """

    def __init__(self, parts: Sequence[tuple[Sequence[int], Any]], unfit: Collection[int] = ()) -> None:
        nodes = np.array([index for indices, _ in parts for index in indices])
        places = np.argsort(nodes)
        if unfit:
            places = places[~np.isin(nodes[places], list(unfit))]
        self._nodes: list[int] = nodes[places].tolist()
        self._vectors: dict[int, Any] | None = None
        self.rows = Sheets([matrix for _, matrix in parts], places)

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[int]:
        return iter(self._nodes)

    def __getitem__(self, index: int) -> Any:
        if self._vectors is None:
            self._vectors = dict(zip(self._nodes, self.rows, strict=True))
        return self._vectors[index]


def rows_of(*vectors: Mapping[int, Any]) -> Sequence[Any]:
    """Return the vectors of several mappings, one after the other, in stacks if all are.

    Examples
    --------
    >>> rows_of({0: "a", 1: "b"}, {2: "c"})
    ('a', 'b', 'c')
    """
    some = [part for part in vectors if part]
    stacked = [part.rows for part in some if isinstance(part, Vectors)]
    if not stacked or len(stacked) < len(some):
        return tuple(vector for part in some for vector in part.values())
    first, *more = stacked
    return sum(more, start=first)
