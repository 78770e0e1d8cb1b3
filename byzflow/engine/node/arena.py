"""Vectors in memory that the processes of one machine share, so that rounds on large vectors copy little.

A worker keeps the rows of its nodes in an anonymous file; others map it by process id and descriptor. Nothing
has a name in a file system, so nothing is left behind, however a process ends.
"""

from __future__ import annotations

import mmap
import os
import secrets
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
import torch

from byzflow.engine.actor.stack import Stack
from byzflow.engine.node.forms import Signature

__all__ = ("Arena", "RowRef", "Showing", "Site", "forget", "reachable", "resolved")

TOKEN = 64  # bytes before the first row


@dataclass(frozen=True, slots=True)
class Site:
    """Where the rows of one arena are, and what they look like."""

    pid: int
    descriptor: int
    token: bytes
    rows: int
    signature: Signature

    @property
    def length(self) -> int:
        """Entries of one row."""
        return prod(self.signature.shape)

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self.rows * self.length * _itemsize(self.signature)


class Arena:
    """Rows that this process owns and all read.

    Parameters
    ----------
    key : str
        Name under which the objects of this process find it.
    rows : int
        How many.
    signature : Signature
        Form of every row: NumPy or torch, floating point, on the CPU.

    Examples
    --------
    >>> arena = Arena("mine", 2, Signature("numpy", "float32", (3,)))
    >>> arena.write(1, np.ones(3, dtype=np.float32))
    >>> RowRef(arena.site, 1).open()
    array([1., 1., 1.], dtype=float32)
    """

    _here: ClassVar[weakref.WeakValueDictionary[str, Arena]] = weakref.WeakValueDictionary()

    def __init__(self, key: str, rows: int, signature: Signature) -> None:
        descriptor = os.memfd_create("byzflow-arena", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        self.site = Site(os.getpid(), descriptor, secrets.token_bytes(16), rows, signature)
        os.ftruncate(descriptor, TOKEN + self.site.size)
        self._memory = mmap.mmap(descriptor, TOKEN + self.site.size)
        self._memory[: len(self.site.token)] = self.site.token
        self._matrix = _matrix(self._memory, self.site)
        self._here[key] = self

    @classmethod
    def here(cls, key: str) -> Arena:
        """Return the arena of this process by its key.

        Raises
        ------
        LookupError
            If there is none.
        """
        arena = cls._here.get(key)
        if arena is None:
            raise LookupError(
                f"A node was to keep its vector in arena {key!r}; there is none in this process."
            )
        return arena

    def write(self, row: int, vector: Any) -> None:
        """Copy a vector into a row."""
        self._matrix[row] = vector.reshape(-1)


@dataclass(frozen=True, slots=True)
class RowRef:
    """One row of an arena, wherever in this machine it is."""

    site: Site
    row: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the vector."""
        return self.site.signature.shape

    @property
    def nbytes(self) -> int:
        """Size of the vector [bytes]."""
        return self.site.length * _itemsize(self.site.signature)

    def flat(self) -> Any:
        """Return the row, shape ``(d,)``, to be read only: all callers in one process get the same memory."""
        return _mapped(self.site)[self.row]

    def open(self) -> Any:
        """Return the vector, to be read only."""
        return self.flat().reshape(self.shape)

    def write(self, lo: int, hi: int, values: Any) -> None:
        """Copy values into columns ``lo`` to ``hi``, from whatever process."""
        matrix = _mapped(self.site, mmap.ACCESS_WRITE)
        is_torch = isinstance(matrix, torch.Tensor)
        matrix[self.row, lo:hi] = torch.as_tensor(values) if is_torch else np.asarray(values)


class Showing:
    """Vectors shown to code that may do with them what it likes, without copying them first.

    Pages are copied when that code writes to them. What it keeps is copied by `close`, before the rows
    are used again.

    Examples
    --------
    >>> arena = Arena("shown", 1, Signature("numpy", "float32", (3,)))
    >>> showing = Showing()
    >>> kept = showing.resolve((RowRef(arena.site, 0),))[0]
    >>> kept[0] = 7.0
    >>> showing.close()
    >>> arena.write(0, np.ones(3, dtype=np.float32))
    >>> kept
    array([7., 0., 0.], dtype=float32)
    """

    def __init__(self) -> None:
        self._memories: dict[RowRef, mmap.mmap] = {}
        self._lent: list[tuple[Stack, bytearray]] = []

    def resolve(self, value: Any) -> Any:
        """Replace references and stacks in tuples by vectors of the receiver's own."""
        if isinstance(value, RowRef):
            start = value.row * value.nbytes + TOKEN
            page = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
            if value not in self._memories:
                size = start + value.nbytes - page
                self._memories[value] = _memory(value.site, mmap.ACCESS_COPY, page, size)
            return _vectors(self._memories[value], value.site, value.site.length, start - page).reshape(
                value.shape
            )
        if isinstance(value, Stack):
            memory, copy = value.lend()
            self._lent.append((value, memory))
            return copy.rows()
        return tuple(map(self.resolve, value)) if type(value) is tuple else value

    def close(self) -> None:
        """Let go of the vectors; those that somebody still holds become copies."""
        while self._lent:
            stack, copy = self._lent.pop()
            stack.take_back(copy)
        for ref in tuple(self._memories):
            alive = weakref.ref(self._memories.pop(ref))
            memory = alive()
            if memory is not None:
                pages = np.frombuffer(memory, dtype=np.uint8)[:: mmap.PAGESIZE]
                pages[:] = pages.copy()


def resolved(value: Any) -> Any:
    """Replace references and stacks in tuples by the vectors they stand for, to be read only.

    Examples
    --------
    >>> resolved((1, ("x",)))
    (1, ('x',))
    """
    if isinstance(value, RowRef):
        return value.open()
    if isinstance(value, Stack):
        return value.rows()
    return tuple(map(resolved, value)) if type(value) is tuple else value


def reachable(sites: Iterable[Site]) -> bool:
    """Whether this process can map all of these arenas, and finds in them what their owners wrote."""
    try:
        for site in sites:
            _mapped(site)
    except (OSError, ValueError, AttributeError):
        return False
    return True


def forget(sites: Iterable[Site]) -> None:
    """Unmap arenas that are not used any more."""
    with _Maps.lock:
        for site in sites:
            for access in (mmap.ACCESS_COPY, mmap.ACCESS_WRITE):
                _Maps.matrices.pop((site, access), None)
                if (descriptor := _Maps.descriptors.pop((site, access), None)) is not None:
                    os.close(descriptor)


class _Maps:
    """The arenas that this process has mapped; their descriptors stay open, as an owner may die."""

    lock = threading.RLock()
    matrices: ClassVar[dict[tuple[Site, int], Any]] = {}
    descriptors: ClassVar[dict[tuple[Site, int], int]] = {}


def _mapped(site: Site, access: int = mmap.ACCESS_COPY) -> Any:
    with _Maps.lock:
        if (site, access) not in _Maps.matrices:
            _Maps.matrices[site, access] = _matrix(_memory(site, access, 0, TOKEN + site.size), site)
        return _Maps.matrices[site, access]


def _memory(site: Site, access: int, start: int, size: int) -> mmap.mmap:
    """Map some bytes of an arena, from a page's start."""
    with _Maps.lock:
        descriptor = _Maps.descriptors.get((site, access))
        if descriptor is None:
            descriptor = _Maps.descriptors[site, access] = _opened(site, access)
        return mmap.mmap(descriptor, size, access=access, offset=start)


def _opened(site: Site, access: int) -> int:
    mode = os.O_RDWR if access == mmap.ACCESS_WRITE else os.O_RDONLY
    descriptor = os.open(f"/proc/{site.pid}/fd/{site.descriptor}", mode)
    if os.pread(descriptor, len(site.token), 0) != site.token:
        os.close(descriptor)
        raise ValueError(f"Process {site.pid} holds something else than the arena that was named.")
    return descriptor


def _matrix(memory: mmap.mmap, site: Site) -> Any:
    return _vectors(memory, site, site.rows * site.length, TOKEN).reshape(site.rows, site.length)


def _vectors(memory: mmap.mmap, site: Site, count: int, offset: int) -> Any:
    """Return entries of an arena that start at an offset into a mapping."""
    if site.signature.library == "torch":
        dtype = getattr(torch, site.signature.dtype)
        return torch.frombuffer(memory, dtype=dtype, count=count, offset=offset)
    return np.frombuffer(memory, dtype=np.dtype(site.signature.dtype), count=count, offset=offset)


def _itemsize(signature: Signature) -> int:
    if signature.library == "torch":
        return int(getattr(torch, signature.dtype).itemsize)
    return np.dtype(signature.dtype).itemsize
