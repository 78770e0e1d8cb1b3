"""Rows in memory that the processes of this machine share, as one of them sees them: where, and mapped."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from byzflow.engine.actor.shared import TOKEN, Spot, opened
from byzflow.engine.actor.stack import SMALL
from byzflow.engine.rounds.forms import Signature

__all__ = ("Site", "mapped", "mapping", "reachable", "rows_in", "shareable", "stay", "unmap", "vectors_in")

LARGE = 2_000_000  # entries of all vectors from which those stay where they are made
TIMES = 16  # so many more if they are short: the reply of a host then has them as one stack, left in a tray


@dataclass(frozen=True, slots=True)
class Site:
    """Where the rows of one arena are, and what they look like."""

    spot: Spot
    rows: int
    signature: Signature

    def __reduce__(self) -> tuple[Any, ...]:
        return _site, (*self.spot, self.rows, self.signature)

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self.rows * self.signature.nbytes


def shareable(form: Signature | None) -> bool:
    """Whether processes can share vectors of this form.

    Examples
    --------
    >>> shareable(Signature("torch", "float32", (3,))), shareable(Signature("torch", "int8", (3,)))
    (True, False)
    """
    if form is None or form.device != "cpu" or not hasattr(os, "memfd_create"):
        return False
    return form.dtype in ("float16", "bfloat16", "float32", "float64")


def stay(vectors: int, form: Signature | None) -> bool:
    """Whether so many vectors of this form stay where they are made, in memory that processes share.

    Examples
    --------
    >>> few, many = Signature("torch", "float32", (10_000,)), Signature("torch", "float32", (10**6,))
    >>> stay(1000, few), stay(10, many)
    (False, True)
    """
    if form is None or not shareable(form):
        return False
    return vectors * form.length >= (LARGE * TIMES if form.nbytes <= SMALL else LARGE)


def reachable(sites: Iterable[Site]) -> bool:
    """Whether this process can map all of these arenas, and finds in them what their owners wrote."""
    try:
        for site in sites:
            mapped(site)
    except (OSError, ValueError, AttributeError):
        return False
    return True


def unmap(sites: Iterable[Site]) -> None:
    """Let go of what this process has mapped of arenas, but for what somebody holds."""
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


def mapped(site: Site, access: int = mmap.ACCESS_COPY) -> Any:
    """Return the rows of an arena, shape ``(rows, d)``: the same memory for all callers in this process."""
    with _Maps.lock:
        if (site, access) not in _Maps.matrices:
            _Maps.matrices[site, access] = rows_in(mapping(site, access, 0, TOKEN + site.size), site)
        return _Maps.matrices[site, access]


def mapping(site: Site, access: int, start: int, size: int) -> mmap.mmap:
    """Map some bytes of an arena, from a page's start, for one use."""
    with _Maps.lock:
        descriptor = _Maps.descriptors.get((site, access))
        if descriptor is None:
            descriptor = _Maps.descriptors[site, access] = opened(site.spot, access)
        return mmap.mmap(descriptor, size, access=access, offset=start)


def rows_in(memory: mmap.mmap, site: Site) -> Any:
    """Return the rows in the mapping of a whole arena, shape ``(rows, d)``."""
    return vectors_in(memory, site, site.rows * site.signature.length, TOKEN).reshape(
        site.rows, site.signature.length
    )


def vectors_in(memory: Any, site: Site, count: int, offset: int) -> Any:
    """Return entries of an arena that start at an offset into a mapping."""
    if site.signature.library == "torch":
        dtype = getattr(torch, site.signature.dtype)
        return torch.frombuffer(memory, dtype=dtype, count=count, offset=offset)
    return np.frombuffer(memory, dtype=np.dtype(site.signature.dtype), count=count, offset=offset)


def _site(pid: int, descriptor: int, token: bytes, rows: int, signature: Signature) -> Site:
    return Site(Spot(pid, descriptor, token), rows, signature)
