"""Memory that the processes of one machine share: an anonymous file of its owner, and how others map it.

Others reach it by process id and descriptor. Nothing has a name in a file system, so nothing is left behind,
however a process ends.
"""

from __future__ import annotations

import mmap
import os
import secrets
import weakref
from pathlib import Path
from typing import NamedTuple

__all__ = ("ALIGNED", "TOKEN", "Shared", "Spot", "aligned", "opened")

ALIGNED = 64  # [bytes]: where torch lets a tensor's memory begin; vectors are best read from there
NAME = "byzflow-"  # what the system's name of the memory begins with
TOKEN = 64  # bytes before what is kept: by the token in them others know that it is this memory


def aligned(size: int) -> int:
    """Return how far apart things of some bytes lie, so that each begins at a multiple of `ALIGNED`.

    Examples
    --------
    >>> aligned(64), aligned(65)
    (64, 128)
    """
    return -(-size // ALIGNED) * ALIGNED


class Spot(NamedTuple):
    """Where memory is: process id and descriptor of its owner, and the token that it begins with."""

    pid: int
    descriptor: int
    token: bytes


class Shared:
    """Memory that this process owns, until the object goes; others may keep their mappings.

    Parameters
    ----------
    size : int
        Bytes, after the first `TOKEN`.
    kind : str
        What it is for, as lists of a process's files and mappings show it.

    Examples
    --------
    >>> shared = Shared(8, "note")
    >>> descriptor = opened(shared.spot, mmap.ACCESS_READ)
    >>> shared.memory[TOKEN:] = b"01234567"
    >>> os.pread(descriptor, 3, TOKEN)
    b'012'
    >>> os.close(descriptor)
    """

    def __init__(self, size: int, kind: str) -> None:
        descriptor = os.memfd_create(NAME + kind, os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        self.spot = Spot(os.getpid(), descriptor, secrets.token_bytes(16))
        os.ftruncate(descriptor, TOKEN + size)
        self.memory = mmap.mmap(descriptor, TOKEN + size)
        self.memory[: len(self.spot.token)] = self.spot.token


def opened(spot: Spot, access: int) -> int:
    """Return a descriptor of another process's memory, which stays when that process goes.

    Raises
    ------
    OSError
        If there is no such process or descriptor here.
    ValueError
        If it is something else.
    """
    path = Path(f"/proc/{spot.pid}/fd/{spot.descriptor}")
    if not str(path.readlink()).startswith(f"/memfd:{NAME}"):  # opening a pipe may take for ever
        raise ValueError(f"Process {spot.pid} has no shared memory at the descriptor that was named.")
    descriptor = os.open(path, os.O_RDWR if access == mmap.ACCESS_WRITE else os.O_RDONLY)
    if os.pread(descriptor, len(spot.token), 0) != spot.token:
        os.close(descriptor)
        raise ValueError(f"Process {spot.pid} holds something else than the memory that was named.")
    return descriptor
