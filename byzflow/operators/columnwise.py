"""Column-wise rules: each column of the answer depends on that column of the rows alone."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from byzflow.kernels.blocks import Span
from byzflow.kernels.rows import Array, Rows
from byzflow.operators.rows import RowOperator

__all__ = ("ColumnwiseOperator",)


class ColumnwiseOperator(RowOperator):
    """A rule whose author writes `columns`; one pass over the data."""

    @abstractmethod
    def columns(self, X: Array) -> Array:
        """Return the answer for the columns of X.

        Parameters
        ----------
        X : Array, (n, w)
            All rows, some columns, float32 or float64. Scratch memory: it may be overwritten.

        Returns
        -------
        Array, (w,) or (k, w)
        """

    def emit(self, rows: Rows, plan: Any, span: Span, out: Array) -> None:
        """Write `columns` of one block."""
        answer = self.columns(rows.read(span))
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
