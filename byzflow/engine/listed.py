"""Sequences of which each item is made when it is looked at."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

__all__ = ("Listed",)

T = TypeVar("T")


class Listed(Sequence[T]):
    """A sequence by its length and the item at each position; a slice of it is a list.

    Examples
    --------
    >>> class Squares(Listed[int]):
    ...     def __len__(self):
    ...         return 4
    ...     def item(self, position):
    ...         return position**2
    >>> squares = Squares()
    >>> squares[-1], squares[1:], list(squares)
    (9, [1, 4, 9], [0, 1, 4, 9])
    """

    __slots__ = ()

    @abstractmethod
    def item(self, position: int) -> T:
        """Return the item at a position from 0 on."""

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self.item(position) for position in range(len(self))[index]]
        return self.item(range(len(self))[index])
