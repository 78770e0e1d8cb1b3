"""Trees of plain values: what a node gives as its state, without code of the node's in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from byzflow.engine.actor.calls import Recorder
from byzflow.engine.actor.vec import has_memory
from byzflow.engine.rounds.forms import bare, is_hollow
from byzflow.exceptions import CheckpointError

__all__ = ("plain",)

DEPTH = 100  # levels of a tree: JSON is written and read by functions that call themselves
BITS = 10_000  # of a whole number: Python reads no longer one from a text
DTYPES = (
    *(torch.bool, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz),
)  # that safetensors stores


def plain(value: Any, where: str = "state", depth: int = 3) -> Any:
    """Return a tree that consists of plain dicts, lists, tuples, tensors, arrays, bytes and values alone.

    Subclasses and other mappings become what they derive from. So whoever gets the tree from another
    process, or looks at it, runs no code of whoever made it.

    Parameters
    ----------
    value : object
        The tree.
    where : str
        What errors call it.
    depth : int, default 3
        Levels above it; those that a checkpoint has above the state of a node.

    Raises
    ------
    CheckpointError
        If something in it is of another kind, or beyond what a file can hold.

    Examples
    --------
    >>> from collections import OrderedDict
    >>> plain(OrderedDict(w=torch.nn.Parameter(torch.ones(2)), steps=np.int64(3)))
    {'w': tensor([1., 1.]), 'steps': array(3)}
    """
    if value is None or type(value) in (bool, float, str, bytes):
        return value
    if isinstance(value, int) and int.bit_length(value) <= BITS:
        return int.__int__(value)
    if isinstance(value, float | str):
        return float.__float__(value) if isinstance(value, float) else str.__str__(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, Mapping | list | tuple) and depth < DEPTH:
        return _tree(value, where, depth + 1)
    array = _array(value)
    if array is not None:
        return array
    raise CheckpointError(
        f"A checkpoint holds dicts, lists, tensors, arrays, bytes and plain values, no deeper than {DEPTH} "
        f"levels; {where} is a {type(value).__name__}. Return such values from state_dict() or step()."
    )


def _tree(value: Any, where: str, depth: int) -> Any:
    if isinstance(value, Mapping):
        keys = [(plain(key, where, depth), key) for key in value]
        return {key: plain(value[own], f"{where}/{key}", depth) for key, own in keys}
    items = [plain(item, f"{where}/{at}", depth) for at, item in enumerate(value)]
    return items if isinstance(value, list) else tuple(items)


def _array(value: Any) -> Any:
    """Return the bare array under a tensor, array or scalar of NumPy's; None if it cannot be stored."""
    array: Any = None
    with Recorder():  # a sparse tensor, for one, has nothing underneath
        array = np.asarray(value) if isinstance(value, np.generic) else bare(value)
    if isinstance(array, torch.Tensor):
        if array.layout is not torch.strided or array.is_meta or array.is_nested or array.dtype not in DTYPES:
            return None
        hollow = is_hollow(array.shape, array.stride(), array.element_size())
        return None if hollow or not has_memory(array) else array.cpu().contiguous()
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        return None
    steps = [stride / array.itemsize for stride in array.strides]
    return None if is_hollow(array.shape, steps, array.itemsize) else np.asarray(array, order="C")
