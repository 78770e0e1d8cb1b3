"""The state of a node as bytes, from which it goes on to the bit as it would have.

Torch pickles every tensor as an archive of its own, which takes longer than a small node's whole round.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from contextvars import ContextVar
from typing import Any

import cloudpickle
import numpy as np
import numpy.typing as npt
import torch

from byzflow.engine.actor.vec import Header, is_tensor, pack, unpack
from byzflow.engine.rounds.overlaps import Overlaps

__all__ = ("State", "attributes_of", "frozen", "kept", "take_over", "thawed")

State = npt.NDArray[np.uint8]
"""Bytes in an array, which travels without being copied."""

LEFT_OUT = ("grad", "_backward_hooks", "_post_accumulate_grad_hooks")
PARTLY = torch.optim.Optimizer.__getstate__  # without hooks, and whatever else a class has

_owner: ContextVar[object] = ContextVar("owner")


def frozen(state: Any, owner: object = None) -> State:
    """Return a pickle of a state, such as the attributes of a node.

    Where they refer to their `owner` itself, as its bound methods do, `thawed` puts in the new one.

    Memory that a process has not used before is slow, so large tensors are copied once, and straight to where
    they stay. What shares memory with something else in the state still does when it is brought back.

    Examples
    --------
    >>> pickle.loads(frozen({"seen": 3}))
    {'seen': 3}
    """
    stream, overlaps = io.BytesIO(), Overlaps()
    first = _Pickler(stream, owner, overlaps)  # it holds what it has seen, so that no address is used again
    first.dump(state)
    if overlaps.close():
        stream = io.BytesIO()
        _Pickler(stream, owner, overlaps).dump(state)
    return np.frombuffer(stream.getbuffer(), dtype=np.uint8)


def thawed(state: Any, owner: object) -> Any:
    """Return the state in a pickle, as that of `owner`.

    Examples
    --------
    >>> class Node:
    ...     pass
    >>> old, new = Node(), Node()
    >>> thawed(frozen({"me": old}, old), new)["me"] is new
    True
    """
    token = _owner.set(owner)
    try:
        return pickle.loads(state)
    finally:
        _owner.reset(token)


def kept(state: State) -> State:
    """Return a state that has come from a host in memory of its own, to be held for rounds.

    What it came in, of which a host has little, is free for other answers.

    Examples
    --------
    >>> pickle.loads(kept(frozen({"seen": 3})))
    {'seen': 3}
    """
    return state.copy()


def attributes_of(node: object) -> Any:
    """Return the attributes of an object: a dict, or that and those in slots.

    Examples
    --------
    >>> class Node:
    ...     __slots__ = ("seen",)
    >>> node = Node()
    >>> node.seen = 3
    >>> attributes_of(node)
    ({}, {'seen': 3})
    """
    known = getattr(node, "__dict__", {})
    names = _slots_of(node)
    return (known, {name: getattr(node, name) for name in names if hasattr(node, name)}) if names else known


def take_over(node: object, attributes: Any) -> None:
    """Give an object these attributes, as of `attributes_of`, and no others.

    Examples
    --------
    >>> class Node:
    ...     pass
    >>> node = Node()
    >>> take_over(node, {"seen": 3})
    >>> node.seen
    3
    """
    known, slots = attributes if type(attributes) is tuple else (attributes, None)
    if hasattr(node, "__dict__"):
        vars(node).clear()
        vars(node).update(known)
    for name in _slots_of(node) if slots is not None else ():
        if name in slots:
            object.__setattr__(node, name, slots[name])
        elif hasattr(node, name):
            object.__delattr__(node, name)


def _slots_of(node: object) -> list[str]:
    return copyreg._slotnames(type(node))  # type: ignore[attr-defined,no-any-return]  # as pickle does


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def __init__(self, stream: io.BytesIO, owner: object, overlaps: Overlaps) -> None:
        super().__init__(stream, protocol=5)
        self._owner, self._overlaps = owner, overlaps

    def reducer_override(self, value: Any) -> Any:
        if value is self._owner and value is not None:
            return _owning, ()
        kind: Any = type(value)
        if kind is np.ndarray and (view := self._overlaps.view(value)) is not None:
            return view
        if is_tensor(value) or kind is torch.nn.Parameter:
            return self._reduced(value)
        if issubclass(kind, torch.optim.Optimizer) and kind.__getstate__ is PARTLY:
            known = {name: own for name, own in vars(value).items() if name != "step"}  # a scheduler's
            return copyreg.__newobj__, (kind,), known  # type: ignore[attr-defined]  # as pickle does
        return super().reducer_override(value)

    def _reduced(self, value: torch.Tensor) -> Any:
        """Return how to make a tensor, and what torch leaves out: its gradient, and its hooks."""
        # Strides choose the loop that BLAS takes, and so the bits: only what has none of its own is packed.
        made = self._overlaps.view(value)
        if made is not None:
            pass
        elif is_tensor(value) and value.is_cpu and value.is_contiguous() and not vars(value):
            header, frame = pack(value)
            made = _tensor, (header, pickle.PickleBuffer(frame))
        else:
            made = value.__reduce_ex__(5)  # type: ignore[no-untyped-call]  # torch does not say
        left = {name: getattr(value, name) for name in LEFT_OUT} if value.is_leaf else {}
        left = {name: own for name, own in left.items() if own is not None}
        return (*made, left, None, None, _put_in) if left and len(made) == 2 else made


def _put_in(value: torch.Tensor, left: dict[str, Any]) -> None:
    for name, own in left.items():
        setattr(value, name, own)


def _owning() -> object:
    return _owner.get()


def _tensor(header: Header, frame: Any) -> Any:
    """Build a tensor in memory that torch has aligned, since alignment chooses loops as well."""
    known = unpack(header, frame)
    return known.detach().clone().requires_grad_(known.requires_grad)
