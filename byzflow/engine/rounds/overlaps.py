"""Tensors and arrays of one state that share memory, as a flat vector and its views: they share it again."""

from __future__ import annotations

import ctypes
import pickle
from bisect import bisect_right
from typing import Any

import numpy as np
import torch

from byzflow.engine.actor.shared import ALIGNED
from byzflow.engine.actor.vec import has_memory, is_tensor

__all__ = ("Overlaps",)

WASTE = 2  # times as long as all that lie in it together, at most, a block is kept: else each goes by itself


class Overlaps:
    """Where the tensors and arrays of a state lie: noted the first time that it is pickled, known the next.

    Examples
    --------
    >>> flat = np.zeros(4)
    >>> overlaps = Overlaps()
    >>> overlaps.view(flat), overlaps.view(flat[1:3]), overlaps.close()
    (None, None, True)
    >>> made, (block, *where) = overlaps.view(flat[1:3])
    >>> block.end - block.start
    32
    """

    def __init__(self) -> None:
        self._spans: list[tuple[int, int, int]] = []  # start, end, bytes of entries between them
        self._blocks: list[_Block] = []
        self._is_open = True

    def view(self, value: Any) -> tuple[Any, ...] | None:
        """Return how to make a value as a view of the block it shares with others, once that is known."""
        span = _span(value) if self._is_open or self._blocks else None
        if span is None:
            return None
        if self._is_open:
            self._spans.append((*span, value.nbytes))
            return None
        at = bisect_right(self._blocks, span[0], key=lambda block: block.start) - 1
        if at < 0 or span[1] > self._blocks[at].end:
            return None
        return self._blocks[at].view(value, span[0])

    def close(self) -> bool:
        """Note no more; return whether any share memory."""
        self._is_open = False
        groups: list[list[tuple[int, int, int]]] = []
        reach = 0
        for span in sorted(self._spans):
            if span[0] >= reach:
                groups.append([])
            groups[-1].append(span)
            reach = max(reach, span[1])
        for group in filter(lambda group: len(group) > 1, groups):
            start, end = group[0][0], max(end for _, end, _ in group)
            if end - start <= WASTE * sum(nbytes for _, _, nbytes in group):
                self._blocks.append(_Block(start, end))
        return bool(self._blocks)


class _Block:
    """Memory from one address to another, in which several values lie."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end

    def __reduce__(self) -> tuple[Any, ...]:
        frame = (ctypes.c_uint8 * (self.end - self.start)).from_address(self.start)
        return _memory, (self.start % ALIGNED, pickle.PickleBuffer(frame))

    def view(self, value: Any, address: int) -> tuple[Any, ...]:
        """Return how to make a value that begins at an address here."""
        offset = self.start % ALIGNED + address - self.start
        if isinstance(value, np.ndarray):
            first = value.__array_interface__["data"][0] - address  # where strides are negative
            return _array, (
                self,
                value.dtype,
                offset + first,
                value.shape,
                value.strides,
                value.flags.writeable,
            )
        name, start = str(value.dtype).removeprefix("torch."), offset // value.element_size()
        return _tensor, (self, name, start, tuple(value.shape), value.stride(), value.requires_grad)


def _span(value: Any) -> tuple[int, int] | None:
    """Return the addresses between which the entries of a value lie; None where none can be shared."""
    if type(value) is np.ndarray:
        return None if value.dtype.hasobject or not value.size else np.lib.array_utils.byte_bounds(value)
    if not is_tensor(value) or not value.is_cpu or not value.numel() or vars(value) or not has_memory(value):
        return None
    if value.is_nested or value.is_conj() or value.is_neg():
        return None
    start = value.data_ptr()
    if value.is_contiguous():
        return start, start + value.nbytes
    reach = sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
    return start, start + (reach + 1) * value.element_size()


def _memory(pad: int, frame: Any) -> torch.Tensor:
    """Return bytes that begin as far behind a multiple of `ALIGNED` as those that were kept."""
    memory = torch.zeros(pad + memoryview(frame).nbytes, dtype=torch.uint8)
    memory.numpy()[pad:] = np.frombuffer(frame, np.uint8)
    return memory


def _array(
    memory: torch.Tensor, dtype: Any, offset: int, shape: Any, strides: Any, is_writeable: bool
) -> Any:
    array: np.ndarray = np.ndarray(shape, dtype, memory.numpy(), offset, strides)
    array.flags.writeable = is_writeable
    return array


def _tensor(
    memory: torch.Tensor, dtype: str, start: int, shape: Any, stride: Any, requires_grad: bool
) -> torch.Tensor:
    blank = torch.empty(0, dtype=getattr(torch, dtype))
    return blank.set_(memory.untyped_storage(), start, shape, stride).requires_grad_(requires_grad)
