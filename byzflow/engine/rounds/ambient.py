"""Settings of torch that nodes in one process share: what one of them changes is put back after its call.

Streams of random numbers are not among them: nodes of byzflow have their own, what several threads draw from
a shared one depends on their order anyway, and to key or keep the three of a process costs more than a small
node's whole call.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import torch

from byzflow.engine.actor.lane import WORK
from byzflow.engine.rounds.thread_state import (
    CLEAN,
    ThreadState,
    dispatches,
    functions,
    is_casting,
    is_graded,
    is_inferring,
    restore,
    state,
)

__all__ = ("noted", "put_back")

Noted = tuple["_Alone | None", int, ThreadState]
"""What holds for the calling thread, with the work if the call belongs to no other."""

_lock = threading.Lock()
_known: weakref.WeakSet[Any] = weakref.WeakSet()
_latest: weakref.ref[Any] | None = None
_shared: tuple[torch.dtype, bool] = (torch.float32, False)


class _Alone:
    """A call that is work of its own."""

    __slots__ = ("__weakref__", "is_open")

    def __init__(self) -> None:
        self.is_open = True


def noted() -> Noted:
    """Note the settings before a call of a node; see `put_back`.

    Those of the process are what they were when the first of all work under way began: two nodes that are
    called side by side would else keep each other's. Work that was given up counts no more, as it may never
    end.

    Examples
    --------
    >>> before = noted()
    >>> torch.set_default_dtype(torch.float64)
    >>> put_back(before)
    >>> torch.get_default_dtype()
    torch.float32
    """
    work = WORK.get()
    alone = _Alone() if work is None else None
    if work is None or work is not _latest:  # else the settings are known, as for nearly every call
        _begin(work or weakref.ref(alone))
    return alone, _threads(), CLEAN if alone is None else state()  # threads of lanes are left clean


def put_back(before: Noted) -> None:
    """Put back what has changed since."""
    alone, threads, own = before
    if alone is not None:
        alone.is_open = False
    if (is_graded(), is_inferring(), is_casting(), functions(), dispatches()) != own:
        restore(own)  # first, since modes lead what is called here too
    dtype, is_strict = _shared
    if _dtype() is not dtype or _is_strict() is not is_strict:
        with _lock:
            torch.set_default_dtype(dtype)
            if _is_strict() is not is_strict:
                torch.use_deterministic_algorithms(is_strict)
    if _threads() != threads:
        torch.set_num_threads(threads)


def _begin(begun: weakref.ref[Any]) -> None:
    """Look at the settings, unless other work is under way."""
    global _latest, _shared
    with _lock:
        work = begun()  # None if nobody waits for it any more
        if work is None or work not in _known:
            if not any(known.is_open for known in _known):
                _shared = _dtype(), _is_strict()
            _known.update(() if work is None else (work,))
        _latest = begun


_dtype, _is_strict = torch.get_default_dtype, torch._C._get_deterministic_algorithms
_threads = torch.get_num_threads
