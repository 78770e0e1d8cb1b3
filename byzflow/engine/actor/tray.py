"""Trays: memory of the caller in which a host on the same machine leaves what is large in its reply.

Four megabytes through a socket take as long as the calls of a thousand small nodes. A tray is lent to a host
for one call, and used again when nothing is left of what came in it. After a call that was given up it is
not, since the host may still write there.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from byzflow.engine.actor.parcel import Parcel
from byzflow.engine.actor.shared import TOKEN, Shared, Spot, aligned, opened

__all__ = ("Left", "Tray", "Trays", "Waiter")

WORTH = 256 * 1024  # [bytes] from which a tray costs less than a socket
LARGEST = 256 * 1024 * 1024  # [bytes]
HELD = 2 * LARGEST  # [bytes] that a host keeps mapped
MOST = 4  # trays of one host; what comes while all are in use travels


@dataclass(frozen=True, slots=True)
class Left:
    """A reply of which the frames after the first lie in the caller's tray."""

    head: bytes
    sizes: tuple[int, ...]


class Tray:
    """Memory for the frames of one reply.

    Parameters
    ----------
    size : int
        Bytes.

    Examples
    --------
    >>> tray, waiter = Tray(4096), Waiter()
    >>> left = waiter.serve(Parcel(frames=[b"head", b"one", b"two"]), tray.spot)
    >>> tray.frames(left.sizes)[1].tobytes(), tray.is_free
    (b'two', True)
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._shared = Shared(size, "tray")
        self._held: weakref.ref[ctypes.Array[ctypes.c_char]] | None = None

    @property
    def spot(self) -> Spot:
        """Where it is."""
        return self._shared.spot

    @property
    def is_free(self) -> bool:
        """Whether nothing is left of the frames that were taken from it."""
        return self._held is None or self._held() is None

    def frames(self, sizes: Sequence[int]) -> list[memoryview]:
        """Return the frames that lie in it, where they lie."""
        whole = (ctypes.c_char * (TOKEN + self.size)).from_buffer(self._shared.memory)
        self._held = weakref.ref(whole)
        view = memoryview(whole).cast("B")
        return [view[start : start + size] for start, size in zip(_starts(sizes), sizes, strict=True)]


class Trays:
    """The trays for the replies of one host.

    Examples
    --------
    >>> trays = Trays()
    >>> with trays.lent() as tray:
    ...     tray is None
    True
    >>> with trays.lent() as tray:
    ...     reply = trays.opened(Parcel(frames=[b"head", bytes(10**6)]), tray)
    >>> with trays.lent() as tray:
    ...     tray.size
    1048576
    """

    def __init__(self) -> None:
        self._spare: deque[Tray] = deque()
        self._size = self._most = 0
        self._is_possible = hasattr(os, "memfd_create")

    def suffice(self, spot: Sequence[Any] | None) -> bool:
        """Whether little is likely to travel of a reply, with a tray at `spot` or without one."""
        return self._most < WORTH or (spot is not None and self._most <= LARGEST)

    def opened(self, reply: Parcel | Left, tray: Tray | None) -> Parcel:
        """Return a reply as a parcel; one that travelled tells how large a tray has to be."""
        if isinstance(reply, Left):
            assert tray is not None
            return Parcel(frames=[reply.head, *tray.frames(reply.sizes)])
        size = _extent([memoryview(frame).nbytes for frame in reply.frames[1:]])
        if tray is not None and size <= tray.size:
            self._is_possible = False  # the host is on another machine
        self._most = max(self._most, size)
        if WORTH <= size <= LARGEST:
            self._size = max(self._size, 1 << (size - 1).bit_length())
        return reply

    @contextmanager
    def lent(self) -> Iterator[Tray | None]:
        """Lend a tray for one call, if there is use for one; it comes back unless that fails."""
        spare = self._spare
        tray = self._picked(spare)
        yield tray
        if tray is not None and self._is_possible:
            spare.append(tray)

    def close(self) -> None:
        """Let go of all trays, as the host is gone; what is held of their frames stays. From any thread."""
        self._is_possible, self._spare = False, deque()  # who lends one meanwhile gives it to the old ones

    def _picked(self, spare: deque[Tray]) -> Tray | None:
        if not self._size or not self._is_possible:
            return None
        for _ in range(len(spare)):
            tray = spare.popleft()
            if not tray.is_free:
                spare.append(tray)
            elif tray.size >= self._size:
                return tray
        return Tray(self._size) if len(spare) < MOST else None


class Waiter:
    """Leaves replies in trays, on the side of the host."""

    def __init__(self) -> None:
        self._known: OrderedDict[Spot, mmap.mmap] = OrderedDict()

    def serve(self, reply: Parcel, spot: Spot) -> Parcel | Left:
        """Leave the frames of a sealed reply in a tray, unless it is too small, or on another machine."""
        head, *frames = reply.frames
        sizes = tuple(memoryview(frame).nbytes for frame in frames)
        try:
            memory = self._mapped(spot)
        except (OSError, ValueError):
            return reply
        if TOKEN + _extent(sizes) > len(memory):
            return reply
        for frame, start, size in zip(frames, _starts(sizes), sizes, strict=True):
            memory[start : start + size] = frame
        return Left(head, sizes)

    def _mapped(self, spot: Spot) -> mmap.mmap:
        if spot not in self._known:
            descriptor = opened(spot, mmap.ACCESS_WRITE)
            try:
                self._known[spot] = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
            finally:
                os.close(descriptor)
            while len(self._known) > 2 * MOST or sum(map(len, self._known.values())) > HELD:
                self._known.popitem(last=False)  # maybe one whose caller has gone long ago
        self._known.move_to_end(spot)
        return self._known[spot]


def _starts(sizes: Sequence[int]) -> list[int]:
    """Return where each frame begins."""
    return list(accumulate(map(aligned, sizes[:-1]), initial=TOKEN)) if sizes else []


def _extent(sizes: Sequence[int]) -> int:
    """Return how many bytes the frames take."""
    return _starts(sizes)[-1] + sizes[-1] - TOKEN if sizes else 0
