"""Column-wise rules: each column of the answer depends on that column of the rows alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from byzflow.kernels.blocks import Span, blocks
from byzflow.kernels.rows import Array, Rows
from byzflow.operators.rows import RowOperator

__all__ = ("ColumnwiseOperator", "reads_in_place")

_WIDE = 1 << 15
"""So many columns of an answer still lie in the cache when they are put where they belong [columns]."""

M = TypeVar("M", bound=Callable[..., Any])


def reads_in_place(columns: M) -> M:
    """Mark a method `columns` that does nothing with X but to hand it to `byzflow.kernels.columns`.

    Rows in host memory then come to it as a `byzflow.kernels.rows.Window`: they are not copied to a block.
    """
    columns.reads_in_place = True  # type: ignore[attr-defined]  # functions take attributes
    return columns


class ColumnwiseOperator(RowOperator):
    """A rule whose author writes `columns`; one pass over the data."""

    @abstractmethod
    def columns(self, X: Array) -> Array:
        """Return the answer for the columns of X.

        Parameters
        ----------
        X : Array, (n, w)
            All rows, some columns, float32 or float64. Scratch memory: it may be overwritten. A `Window`
            of rows in host memory if the method is marked by `reads_in_place`.

        Returns
        -------
        Array, (w,) or (k, w)
        """

    def in_place(self, rows: Rows, plan: Any) -> bool:
        """Whether `columns` does without a copy of the rows."""
        return rows.addresses is not None and getattr(self.columns, "reads_in_place", False)

    def emit(self, rows: Rows, plan: Any, span: Span, out: Array) -> None:
        """Write `columns` of one block; of any span if `in_place`."""
        if not self.in_place(rows, plan):
            self._write(self.columns(rows.read(span)), span, out)
        elif span.width <= _WIDE:
            self._write(self.columns(rows.window(span)), span, out)
        else:
            for part in blocks(span, _WIDE):
                self.emit(rows, plan, part, out[:, part.lo - span.lo : part.hi - span.lo])

    def _write(self, answer: Array, span: Span, out: Array) -> None:
        shape = np.shape(answer)
        if shape != (span.width,) and shape != tuple(out.shape):
            raise ValueError(
                f"{type(self).__name__}.columns must return a value for each of {span.width} columns; "
                f"got shape {shape}. Reduce along axis 0 alone."
            )
        if not isinstance(out, np.ndarray) and type(answer) is not type(out):
            wanted, got = (type(array).__module__.partition(".")[0] for array in (out, answer))
            raise TypeError(
                f"{type(self).__name__}.columns must return an array of X's library, {wanted}; got one of "
                f"{got}. Take functions from array_api_compat.array_namespace(X)."
            )
        out[:, :] = answer
