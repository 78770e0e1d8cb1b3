"""What each thread has of torch's state: gradients, inference, autocast and modes, and how to put it back.

A thread of a host serves many nodes, and one that enters a mode and does not leave it must not lead the next.
"""

from __future__ import annotations

import threading
from typing import Any

import torch

__all__ = ("CLEAN", "ThreadState", "restore", "state")

ThreadState = tuple[bool, bool, bool, int, int]
"""Whether gradients are on, inference mode, any autocast; function modes, dispatch modes."""

CLEAN: ThreadState = (True, False, False, 0, 0)
"""How every thread begins."""

CASTS = {"cpu": torch.bfloat16, "cuda": torch.float16, "mps": torch.float16, "xpu": torch.bfloat16}
"""Kinds of devices that autocast may be on for, with what it casts to."""


def state() -> ThreadState:
    """Return the state of the calling thread.

    Examples
    --------
    >>> torch.autocast("cpu").__enter__()  # doctest: +ELLIPSIS
    <torch.amp.autocast_mode.autocast object at ...>
    >>> state() == CLEAN
    False
    >>> restore(CLEAN)
    >>> state() == CLEAN
    True
    """
    return is_graded(), is_inferring(), is_casting(), functions(), dispatches()


def restore(before: ThreadState) -> None:
    """Leave what was entered in the calling thread since it had this state."""
    graded, inferring, casting, modes, tracing = before
    _pop(modes)  # first of all, since they lead what is called here too
    while dispatches() > tracing:
        torch._C._pop_torch_dispatch_stack(None)
    if not modes:
        torch.set_default_device(None)  # which is such a mode, and remembered elsewhere too
        _pop(modes)
    if is_casting() and not casting:
        _leave_autocast()
    if is_inferring() is not inferring:
        _kept.guard = None  # it would undo the next one when it goes
        _kept.guard = torch._C._InferenceMode(inferring)
        _kept.guard.__enter__()
    torch.set_grad_enabled(graded)


def _pop(modes: int) -> None:
    while functions() > modes:
        torch._C._pop_torch_function_stack()


def _leave_autocast() -> None:
    for device, dtype in CASTS.items():
        if torch.is_autocast_enabled(device):
            torch.set_autocast_enabled(device, False)
            torch.set_autocast_dtype(device, dtype)
    for _ in range(torch.autocast_increment_nesting()):
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()


class _Kept(threading.local):
    """The latest guard of a thread's inference mode: what it set holds for as long as it is there."""

    guard: Any = None


_kept = _Kept()
is_graded, is_inferring = torch.is_grad_enabled, torch.is_inference_mode_enabled
is_casting = torch._C._is_any_autocast_enabled
functions, dispatches = torch._C._len_torch_function_stack, torch._C._len_torch_dispatch_stack
