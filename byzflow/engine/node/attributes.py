"""The attributes of a node as bytes, from which it goes on to the bit as it would have.

Torch pickles every tensor as an archive of its own, which takes longer than a small node's whole round.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import cloudpickle

from byzflow.engine.actor.vec import Header, is_tensor, pack, unpack

__all__ = ("frozen_attributes",)


def frozen_attributes(node: object) -> bytes:
    """Return the attributes of an object as a pickle of a dictionary.

    Examples
    --------
    >>> class Node:
    ...     def __init__(self):
    ...         self.seen = 3
    >>> pickle.loads(frozen_attributes(Node()))
    {'seen': 3}
    """
    stream = io.BytesIO()
    _Pickler(stream, protocol=5).dump(vars(node))
    return stream.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def reducer_override(self, value: Any) -> Any:
        # Strides choose the loop that BLAS takes, and so the bits: only what has none of its own is packed.
        if is_tensor(value) and value.is_cpu and value.is_contiguous() and not vars(value):
            header, frame = pack(value)
            return _tensor, (header, pickle.PickleBuffer(frame))
        return super().reducer_override(value)


def _tensor(header: Header, frame: Any) -> Any:
    """Build a tensor in memory that torch has aligned, since alignment chooses loops as well."""
    known = unpack(header, frame)
    return known.detach().clone().requires_grad_(known.requires_grad)
