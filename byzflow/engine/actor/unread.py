"""Messages on their way to one reader, kept by this process until that has them."""

from __future__ import annotations

import threading
from itertools import count

from byzflow.engine.actor.parcel import Parcel
from byzflow.engine.config import setting

__all__ = ("Unread",)


class Unread:
    """Numbered messages to a reader, so that they outlive the worker on which the mailbox is.

    Any thread may call its methods.

    Examples
    --------
    >>> unread = Unread()
    >>> first, second = unread.add(Parcel("first")), unread.add(Parcel("second"))
    >>> unread.take(first).open(), unread.take(first)
    ('first', None)
    >>> [parcel.open() for parcel in unread.rescue()], unread.take(second)
    (['second'], None)
    """

    def __init__(self) -> None:
        self._capacity = int(setting("channel.capacity"))
        self._numbers = count()
        self._parcels: dict[int, Parcel] = {}
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Whether more messages wait than a mailbox holds."""
        return len(self._parcels) > self._capacity

    def add(self, parcel: Parcel) -> int:
        """Keep a message and return its number."""
        with self._lock:
            number = next(self._numbers)
            self._parcels[number] = parcel
            return number

    def take(self, number: int) -> Parcel | None:
        """Return a message for the only time; None if it was taken, or rescued, before."""
        with self._lock:
            return self._parcels.pop(number, None)

    def rescue(self) -> list[Parcel]:
        """Take all messages, in the order of their numbers."""
        with self._lock:
            parcels, self._parcels = self._parcels, {}
            return list(parcels.values())
