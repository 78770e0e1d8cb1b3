"""Settings of torch that nodes in one process share: what one of them changes is put back after its call.

Streams of random numbers are not among them: nodes of byzflow have their own, what several threads draw from
a shared one depends on their order anyway, and to key or keep the three of a process costs more than a small
node's whole call.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import torch

from byzflow.engine.actor.lane import WORK

__all__ = ("Ambient",)


class Ambient:
    """The settings around one call of a node.

    Those of the process are put back to what they were when the first of all work under way began: two nodes
    that are called side by side would else keep each other's. Work that was given up counts no more, as it
    may never end.

    Examples
    --------
    >>> ambient = Ambient()
    >>> torch.set_default_dtype(torch.float64)
    >>> ambient.restore()
    >>> torch.get_default_dtype()
    torch.float32
    """

    __slots__ = ("__weakref__", "_is_open", "_own")

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _known: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()
    _latest: ClassVar[Callable[[], Any]] = type(None)  # there was none
    _shared: ClassVar[tuple[torch.dtype, bool]] = (torch.float32, False)

    def __init__(self) -> None:
        self._is_open = True
        work = WORK.get() or self
        if Ambient._latest() is not work:  # else the settings are known, as for nearly every call
            Ambient._begin(work)
        self._own = _of_thread()

    def is_open(self) -> bool:
        """Whether the call is under way."""
        return self._is_open

    def restore(self) -> None:
        """Put back what has changed."""
        self._is_open = False
        if _of_process() != Ambient._shared:
            with Ambient._lock:
                dtype, is_strict = Ambient._shared
                torch.set_default_dtype(dtype)
                if torch.are_deterministic_algorithms_enabled() is not is_strict:
                    torch.use_deterministic_algorithms(is_strict)
        if _of_thread() != self._own:
            threads, is_graded, modes = self._own
            torch.set_grad_enabled(is_graded)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            if torch._C._len_torch_function_stack() != modes:
                torch.set_default_device(None)

    @classmethod
    def _begin(cls, work: Any) -> None:
        """Look at the settings, unless other work is under way."""
        with cls._lock:
            if work not in cls._known:
                if not any(known.is_open() for known in cls._known):
                    cls._shared = _of_process()
                cls._known.add(work)
            cls._latest = weakref.ref(work)


def _of_process() -> tuple[torch.dtype, bool]:
    return _dtype(), _is_strict()


def _of_thread() -> tuple[int, bool, int]:
    return _threads(), _is_graded(), _modes()  # one mode is a default device, slower to ask for


_dtype, _is_strict = torch.get_default_dtype, torch._C._get_deterministic_algorithms
_threads, _is_graded, _modes = (
    *(torch.get_num_threads, torch.is_grad_enabled),
    torch._C._len_torch_function_stack,
)
