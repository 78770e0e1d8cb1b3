"""Rows in memory that the processes of this machine share, as one of them sees them: where, and mapped."""

from __future__ import annotations

import math
import mmap
import os
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch

from byzflow.engine.actor.shared import TOKEN, Spot, aligned, opened
from byzflow.engine.actor.stack import SMALL
from byzflow.engine.rounds.forms import Signature, norm_of
from byzflow.kernels.native import taken

__all__ = (
    "Site",
    "copies",
    "gathered",
    "mapped",
    "mapping",
    "pitch_of",
    "reachable",
    "rows_in",
    "shareable",
    "site_of",
    "spaced",
    "stay",
    "take",
    "unmap",
    "vectors_in",
)

LARGE = 2_000_000  # entries of all vectors from which those stay where they are made
AT_ONCE = 128  # rows of which views are made at once; most arenas have fewer
TIMES = 16  # so many more if they are short: the reply of a host then has them as one stack, left in a tray


@dataclass(frozen=True, slots=True)
class Site:
    """Where the rows of one arena are, and what they look like."""

    spot: Spot
    rows: int
    signature: Signature

    def __hash__(self) -> int:  # often asked for, and no two arenas have one token
        return hash(self.spot.token)

    def __reduce__(self) -> tuple[Any, ...]:
        return site_of, (*self.spot, self.rows, self.signature)

    @property
    def pitch(self) -> int:
        """Bytes from where one row begins to where the next does."""
        return pitch_of(self.signature)

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self.rows * self.pitch


def pitch_of(form: Signature) -> int:
    """Return how far apart rows of this form lie [bytes]: each begins where a tensor of its own might.

    Examples
    --------
    >>> pitch_of(Signature("torch", "float32", (3,))), pitch_of(Signature("torch", "float64", (8,)))
    (64, 64)
    """
    return aligned(form.nbytes)


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
            _Maps.views.pop(site, None)
            _Maps.starts.pop(site, None)
            for access in (mmap.ACCESS_COPY, mmap.ACCESS_WRITE):
                _Maps.matrices.pop((site, access), None)
            if (descriptor := _Maps.descriptors.pop(site, None)) is not None:
                os.close(descriptor)


class _Maps:
    """The arenas that this process has mapped; their descriptors stay open, as an owner may die."""

    lock = threading.RLock()
    matrices: ClassVar[dict[tuple[Site, int], Any]] = {}
    views: ClassVar[dict[Site, list[tuple[Any, ...]]]] = {}
    starts: ClassVar[dict[Site, tuple[Any, int, int, Any]]] = {}
    descriptors: ClassVar[dict[Site, int]] = {}


def mapped(site: Site, access: int = mmap.ACCESS_COPY) -> Any:
    """Return the rows of an arena, shape ``(rows, d)``: the same memory for all callers in this process."""
    return spaced(site, access)[:, : site.signature.length]


def spaced(site: Site, access: int = mmap.ACCESS_COPY) -> Any:
    """Return the rows of an arena as `mapped`, with what lies between them, as one contiguous array."""
    with _Maps.lock:
        if (site, access) not in _Maps.matrices:
            memory = mapping(site, access, 0, TOKEN + site.size)
            _Maps.matrices[site, access] = _spaced_in(memory, site)
        return _Maps.matrices[site, access]


def copies(site: Site, rows: Collection[int]) -> list[Any]:
    """Return rows as vectors of the caller's own."""
    copy = torch.Tensor.clone if site.signature.library == "torch" else np.ndarray.copy
    return [copy(view) for view in _views(site, rows)]


def gathered(site: Site, rows: Sequence[int]) -> Any:
    """Return a copy of rows, one below the other, shape ``(k, *shape)``."""
    matrix = mapped(site, mmap.ACCESS_WRITE)
    is_torch = site.signature.library == "torch"
    block = torch.index_select(matrix, 0, torch.tensor(rows)) if is_torch else matrix.take(rows, axis=0)
    return block.reshape(-1, *site.signature.shape)


def take(site: Site, row: int, vector: Any) -> float:
    """Copy a vector of the rows' form into a row, from whatever process, and return its norm."""
    matrix, start, pitch, like = _Maps.starts.get(site) or _started(site)
    if like is None or not _is_plain(vector):
        matrix[row] = vector.reshape(-1)
        return norm_of(vector)
    source, target = np.uintp(_address(vector)), np.uintp(start + row * pitch)
    norm = taken(source, target, site.signature.length, like) ** 0.5
    return norm if math.isfinite(norm) else norm_of(vector)


def _is_plain(vector: Any) -> bool:
    return bool(vector.is_contiguous() if isinstance(vector, torch.Tensor) else vector.flags.c_contiguous)


def _address(array: Any) -> int:
    return int(array.data_ptr() if isinstance(array, torch.Tensor) else array.__array_interface__["data"][0])


def _started(site: Site) -> tuple[Any, int, int, Any]:
    """Return the rows to be written, where they begin, how far apart, and an array of a dtype loops know."""
    matrix = mapped(site, mmap.ACCESS_WRITE)
    is_known = site.signature.dtype in ("float32", "float64")
    found = matrix, _address(matrix), site.pitch, np.empty(0, site.signature.dtype) if is_known else None
    return _Maps.starts.setdefault(site, found)


def _views(site: Site, rows: Collection[int]) -> list[Any]:
    """Return rows to be copied: through the mapping that writes, so that there need be no other."""
    known = _Maps.views.get(site)
    if known is None:
        known = _Maps.views.setdefault(site, [()] * (site.rows // AT_ONCE + 1))
    parts = [divmod(row, AT_ONCE) for row in rows]
    for part, _ in parts:
        if not known[part]:
            some = mapped(site, mmap.ACCESS_WRITE)[part * AT_ONCE : (part + 1) * AT_ONCE]
            flat = some.unbind() if isinstance(some, torch.Tensor) else some
            known[part] = tuple(row.reshape(site.signature.shape) for row in flat)
    return [known[part][at] for part, at in parts]


def mapping(site: Site, access: int, start: int, size: int) -> mmap.mmap:
    """Map some bytes of an arena, from a page's start, for one use."""
    with _Maps.lock:
        descriptor = _Maps.descriptors.get(site)
        if descriptor is None:
            descriptor = _Maps.descriptors[site] = opened(site.spot, mmap.ACCESS_WRITE)
        return mmap.mmap(descriptor, size, access=access, offset=start)


def rows_in(memory: mmap.mmap, site: Site) -> Any:
    """Return the rows in the mapping of a whole arena, shape ``(rows, d)``."""
    return _spaced_in(memory, site)[:, : site.signature.length]


def _spaced_in(memory: mmap.mmap, site: Site) -> Any:
    form = site.signature
    width = site.pitch * form.length // max(1, form.nbytes)
    return vectors_in(memory, site, site.rows * width, TOKEN).reshape(site.rows, width)


def vectors_in(memory: Any, site: Site, count: int, offset: int) -> Any:
    """Return entries of an arena that start at an offset into a mapping."""
    if site.signature.library == "torch":
        dtype = getattr(torch, site.signature.dtype)
        return torch.frombuffer(memory, dtype=dtype, count=count, offset=offset)
    return np.frombuffer(memory, dtype=np.dtype(site.signature.dtype), count=count, offset=offset)


@lru_cache(maxsize=256)
def site_of(pid: int, descriptor: int, token: bytes, rows: int, signature: Signature) -> Site:
    """Return the site that is at a spot: the same object each time, so that rows of it are soon compared."""
    return Site(Spot(pid, descriptor, token), rows, signature)
