"""Many small vectors of one form as one array, so that they travel and are copied as one object."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from byzflow.engine.actor.shared import ALIGNED, aligned
from byzflow.engine.actor.vec import is_numeric, is_tensor

__all__ = ("Stack", "stackable", "stacked")

_DTYPE, _REQUIRES_GRAD = attrgetter("dtype"), attrgetter("requires_grad")
SMALL = 64 * 1024  # [bytes] up to which one more copy of a vector costs less than an object of its own


class Stack:
    """Vectors of one form, one below the other.

    Parameters
    ----------
    matrix : array
        NumPy or torch on the CPU, shape ``(n, *shape)``.
    kind : {tuple, list}
        What its rows come as.

    Examples
    --------
    >>> stack = Stack.of((np.zeros(2), np.ones(2)))
    >>> stack.rows()
    (array([0., 0.]), array([1., 1.]))
    >>> memory, rows = stack.lend()
    >>> rows[1][:] = 7.0
    >>> del rows
    >>> stack.take_back(memory)
    >>> stack.lend()[1]
    (array([0., 0.]), array([1., 1.]))
    """

    __slots__ = ("_kind", "_spare", "matrix")

    def __init__(self, matrix: Any, kind: type[tuple[Any, ...]] | type[list[Any]] = tuple) -> None:
        self.matrix, self._kind = matrix, kind
        self._spare: list[bytearray] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return Stack, (self.matrix, self._kind)

    @classmethod
    def of(cls, vectors: Sequence[Any]) -> Stack:
        """Stack vectors that have one `stackable` form; the rows of a list come as a list."""
        kind = list if type(vectors) is list else tuple
        if isinstance(vectors[0], np.ndarray):
            return cls(np.stack(vectors), kind)
        import torch

        return cls(torch.stack(tuple(vectors)), kind)

    @classmethod
    def tried(cls, vectors: Sequence[Any]) -> Stack | None:
        """Stack vectors, unless they have more forms than one, or one that forbids it."""
        if not vectors or stackable(vectors[0]) is None:
            return None
        looks = (type, _DTYPE) if isinstance(vectors[0], np.ndarray) else (type, _DTYPE, _REQUIRES_GRAD)
        if any(len({*map(look, vectors)}) > 1 for look in looks):
            return None
        try:
            return cls.of(vectors)
        except (RuntimeError, ValueError):  # they differ in shape, or in where and how they lie
            return None

    def rows(self) -> Sequence[Any]:
        """Return the vectors, which share the memory of the stack, but nothing that autograd notes."""
        from byzflow.kernels.sheets import split

        return self._kind(split(self.matrix))

    def lend(self) -> tuple[bytearray, Sequence[Any]]:
        """Return the rows of a copy, and its memory for `take_back`: fresh pages cost more than used ones.

        Each row begins where the memory of a tensor of its own would: last bits of what MKL computes depend
        on that.
        """
        numbers = _bytes_of(self.matrix)
        n, size = numbers.shape
        pitch = aligned(size)
        memory = self._spare.pop() if self._spare else bytearray(n * pitch + ALIGNED)
        whole = np.frombuffer(memory, np.uint8)
        start = -whole.__array_interface__["data"][0] % ALIGNED
        block = whole[start : start + n * pitch].reshape(n, pitch)
        block[:, :size] = numbers
        if not isinstance(self.matrix, np.ndarray):
            return memory, self._kind(_torch_rows(block, self.matrix, size))
        shape, dtype = self.matrix.shape[1:], self.matrix.dtype
        return memory, self._kind(row[:size].view(dtype).reshape(shape) for row in block)

    def take_back(self, memory: bytearray) -> None:
        """Use the memory again, unless somebody still holds a part of the copy."""
        try:
            memory.append(0)  # refused as long as an array is on this memory
        except BufferError:
            return
        memory.pop()
        self._spare.append(memory)


def _bytes_of(matrix: Any) -> np.ndarray:
    """Return what lies in each row of a matrix."""
    flat = matrix.reshape(len(matrix), -1)
    if isinstance(flat, np.ndarray):
        return flat.view(np.uint8)
    import torch

    numbers: np.ndarray = flat.view(torch.uint8).numpy()
    return numbers


def _torch_rows(block: np.ndarray, like: Any, size: int) -> Sequence[Any]:
    """Return the first `size` bytes of each row of a block as a vector like those in `like`."""
    import torch

    shape = like.shape[1:]
    length = shape.numel()
    rest = (block.shape[1] - size) * length // size
    numbers = torch.from_numpy(block.reshape(-1)).view(like.dtype)
    parts = numbers.unsafe_split_with_sizes(([length, rest] if rest else [length]) * len(block))
    rows = parts[::2] if rest else parts
    return rows if len(shape) == 1 else [row.reshape(shape) for row in rows]


def stackable(value: Any) -> tuple[Any, ...] | None:
    """Return the form in which a vector may be stacked with others; None if it must travel by itself.

    Examples
    --------
    >>> stackable(np.zeros(2))
    ('numpy', dtype('float64'), (2,))
    >>> stackable("text") is None
    True
    """
    if is_numeric(value):
        return (
            ("numpy", value.dtype, value.shape)
            if 0 < value.nbytes <= SMALL and value.dtype.isnative
            else None
        )
    if not is_tensor(value) or value.requires_grad or value.is_nested or not value.is_cpu:
        return None
    return ("torch", value.dtype, value.shape) if 0 < value.nbytes <= SMALL else None


def stacked(vectors: Sequence[Any]) -> Stack | Sequence[Any]:
    """Return vectors as a `Stack` if they have one form that allows it, else as they are.

    Examples
    --------
    >>> type(stacked((np.zeros(2), np.ones(2)))).__name__, type(stacked((np.zeros(2), None))).__name__
    ('Stack', 'tuple')
    """
    from byzflow.kernels.sheets import Sheets

    if isinstance(vectors, Sheets):
        return Stack(vectors.whole())
    return Stack.tried(vectors) or vectors
