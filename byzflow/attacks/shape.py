"""Attacks that ask the honest vectors for nothing but their library, dtype and shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from operator import attrgetter, countOf
from typing import Any, ClassVar

from byzflow.attacks.base import RowAttack
from byzflow.kernels.intake import as_array
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.checks import positive

__all__ = ("ShapeAttack",)

_shape = attrgetter("shape")


@frozen
class ShapeAttack(RowAttack):
    """An attack whose author writes ``emit`` without reading the rows; one vector travels to it, not n.

    Parameters
    ----------
    chunk_size : int, default 8192
        Scheduling hint [columns]; never changes the result.

    Raises
    ------
    ValueError
        If `chunk_size` is not positive.
    """

    chunk_size: int = field(default=8192, kw_only=True)
    uses_honest_grads: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("chunk_size", self.chunk_size)

    def _rows(self, key: str, value: Any) -> Sequence[Array]:
        """Return the first honest vector, alone; the others must only be shaped like it."""
        vectors: Any = super()._rows(key, value)
        if not isinstance(vectors, (list, tuple)) and hasattr(vectors, "shape"):
            return vectors[:1, ...]  # type: ignore[no-any-return]  # a stacked array is a sequence of its rows
        try:
            alike = not vectors or countOf(map(_shape, vectors), vectors[0].shape) == len(vectors)
        except AttributeError:  # a list of numbers is a vector too
            alike = False
        if not alike:
            self._compare([tuple(as_array(vector).shape) for vector in vectors])
        return [vectors[0]] if len(vectors) else []

    def _compare(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Raise ValueError unless all shapes are one."""
        if shapes.count(shapes[0]) < len(shapes):
            index = next(i for i, shape in enumerate(shapes) if shape != shapes[0])
            raise ValueError(
                f"All vectors must have the same shape; vector 0 has shape {tuple(shapes[0])}, vector "
                f"{index} has shape {tuple(shapes[index])}. Flatten or pad them to one shape."
            )
