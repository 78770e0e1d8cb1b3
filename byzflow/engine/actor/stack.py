"""Many small vectors of one form as one array, so that they travel and are copied as one object."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

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

    Examples
    --------
    >>> stack = Stack.of([np.zeros(2), np.ones(2)])
    >>> stack.rows()
    (array([0., 0.]), array([1., 1.]))
    >>> memory, copy = stack.lend()
    >>> copy.rows()[1][:] = 7.0
    >>> del copy
    >>> stack.take_back(memory)
    >>> stack.lend()[1].rows()
    (array([0., 0.]), array([1., 1.]))
    """

    __slots__ = ("_spare", "matrix")

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self._spare: list[bytearray] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return Stack, (self.matrix,)

    @classmethod
    def of(cls, vectors: Sequence[Any]) -> Stack:
        """Stack vectors that have one `stackable` form."""
        if isinstance(vectors[0], np.ndarray):
            return cls(np.stack(vectors))
        import torch

        return cls(torch.stack(tuple(vectors)))

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

    def rows(self) -> tuple[Any, ...]:
        """Return the vectors, which share the memory of the stack, but nothing that autograd notes."""
        from byzflow.kernels.sheets import split

        return split(self.matrix)

    def lend(self) -> tuple[bytearray, Stack]:
        """Return a copy, and its memory for `take_back`: fresh pages cost more than filling used ones."""
        memory = self._spare.pop() if self._spare else bytearray(self.matrix.nbytes)
        flat = np.frombuffer(memory, dtype=np.uint8)
        if isinstance(self.matrix, np.ndarray):
            copy = flat.view(self.matrix.dtype).reshape(self.matrix.shape)
            copy[...] = self.matrix
            return memory, Stack(copy)
        import torch

        tensor = torch.from_numpy(flat).view(self.matrix.dtype).reshape(self.matrix.shape)
        return memory, Stack(tensor.copy_(self.matrix))

    def take_back(self, memory: bytearray) -> None:
        """Use the memory again, unless somebody still holds a part of the copy."""
        try:
            memory.append(0)  # refused as long as an array is on this memory
        except BufferError:
            return
        memory.pop()
        self._spare.append(memory)


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
