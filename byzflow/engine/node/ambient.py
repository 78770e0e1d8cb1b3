"""Settings of torch that nodes in one process share: what one of them changes is put back after its call.

Streams of random numbers are not among them: nodes of byzflow have their own, what several threads draw from
a shared one depends on their order anyway, and to key or keep the three of a process costs more than a small
node's whole call.
"""

from __future__ import annotations

import threading
from typing import ClassVar

import torch

from byzflow.engine.actor.lane import WORK

__all__ = ("Ambient",)


class Ambient:
    """The settings around one call of a node.

    Those of the process are put back to what they were before the first of all calls under way: two nodes
    that are called side by side would else keep each other's. A call that was given up counts no more, as it
    may never end.

    Examples
    --------
    >>> ambient = Ambient()
    >>> torch.set_default_dtype(torch.float64)
    >>> ambient.restore()
    >>> torch.get_default_dtype()
    torch.float32
    """

    __slots__ = ("_is_graded", "_modes", "_threads", "_work")

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _under_way: ClassVar[set[Ambient]] = set()
    _dtype: ClassVar[torch.dtype] = torch.float32
    _is_strict: ClassVar[bool] = False

    def __init__(self) -> None:
        kind, self._work = Ambient, WORK.get()
        with kind._lock:
            if not any(map(Ambient._is_wanted, kind._under_way)):
                kind._under_way.clear()
                kind._dtype = torch.get_default_dtype()
                kind._is_strict = torch.are_deterministic_algorithms_enabled()
            kind._under_way.add(self)
        self._threads, self._is_graded = torch.get_num_threads(), torch.is_grad_enabled()
        self._modes = torch._C._len_torch_function_stack()  # one is a default device, slower to ask for

    def restore(self) -> None:
        """Put back what has changed."""
        kind = Ambient
        with kind._lock:
            kind._under_way.discard(self)
            if torch.get_default_dtype() is not kind._dtype:
                torch.set_default_dtype(kind._dtype)
            if torch.are_deterministic_algorithms_enabled() is not kind._is_strict:
                torch.use_deterministic_algorithms(kind._is_strict)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        if torch.is_grad_enabled() is not self._is_graded:
            torch.set_grad_enabled(self._is_graded)
        if torch._C._len_torch_function_stack() != self._modes:
            torch.set_default_device(None)

    def _is_wanted(self) -> bool:
        return self._work is None or self._work.is_open()
