"""The state of a node as bytes, from which it goes on to the bit as it would have.

Torch pickles every tensor as an archive of its own, which takes longer than a small node's whole round.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import cloudpickle
import numpy as np
import numpy.typing as npt

from byzflow.engine.actor.vec import Header, is_tensor, pack, unpack

__all__ = ("State", "frozen", "kept", "take_over", "thawed")

State = npt.NDArray[np.uint8]
"""Bytes in an array, which travels without being copied."""

_owner: ContextVar[object] = ContextVar("owner")


def frozen(state: Any, owner: object = None) -> State:
    """Return a pickle of a state, such as the attributes of a node.

    Where they refer to their `owner` itself, as its bound methods do, `thawed` puts in the new one.

    Memory that a process has not used before is slow, so large tensors are copied once, and straight to where
    they stay.

    Examples
    --------
    >>> pickle.loads(frozen({"seen": 3}))
    {'seen': 3}
    """
    stream = io.BytesIO()
    pickler = _Pickler(stream, protocol=5)
    pickler.owner = owner
    pickler.dump(state)
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


def take_over(node: object, attributes: Mapping[str, Any]) -> None:
    """Give an object these attributes and no others.

    Examples
    --------
    >>> class Node:
    ...     pass
    >>> node = Node()
    >>> take_over(node, {"seen": 3})
    >>> node.seen
    3
    """
    known = vars(node)
    known.clear()
    known.update(attributes)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    owner: object = None

    def reducer_override(self, value: Any) -> Any:
        if value is self.owner and value is not None:
            return _owning, ()
        # Strides choose the loop that BLAS takes, and so the bits: only what has none of its own is packed.
        if is_tensor(value) and value.is_cpu and value.is_contiguous() and not vars(value):
            header, frame = pack(value)
            return _tensor, (header, pickle.PickleBuffer(frame))
        return super().reducer_override(value)


def _owning() -> object:
    return _owner.get()


def _tensor(header: Header, frame: Any) -> Any:
    """Build a tensor in memory that torch has aligned, since alignment chooses loops as well."""
    known = unpack(header, frame)
    return known.detach().clone().requires_grad_(known.requires_grad)
