"""What a pre-aggregator is: n vectors in, k vectors out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from byzflow.kernels.rows import Array
from byzflow.operators.base import OpContext, Operator
from byzflow.operators.inputs import wired
from byzflow.operators.lazy import as_lazy, lazy_rows
from byzflow.operators.linear import LinearOperator
from byzflow.operators.overriding import runs_whole

__all__ = ("LinearPreAggregator", "PreAggregator")


class PreAggregator(Operator, ABC):
    """Base of every rule that turns n vectors into k vectors before they are aggregated."""

    name: ClassVar[str] = "pre_aggregator"
    input_key: ClassVar[str] = "vectors"
    keeps_nodes: ClassVar[bool] = True
    """Whether vector i of the answer is still that of node i."""

    @abstractmethod
    def pre_aggregate(self, xs: Sequence[Array]) -> list[Array]:
        """Turn n vectors into k.

        Parameters
        ----------
        xs : sequence of Array, Array of shape (n, ...), or dask.array of shape (n, d)
            One vector for each node, all of one shape.

        Returns
        -------
        list of Array
            Library, dtype, device and shape of the first vector; for a dask.array, a lazy (k, d) array.
        """

    def compute(self, inputs: Mapping[str, Any], *, context: OpContext) -> Any:
        """Transform the input ``"vectors"``.

        Raises
        ------
        KeyError
            If it is missing.
        TypeError
            If it is no sequence.
        """
        return self.pre_aggregate(wired(inputs, self.input_key, type(self).__name__))


class LinearPreAggregator(LinearOperator, PreAggregator):
    """A pre-aggregator whose author writes ``weights(geometry)``, of shape (k, n)."""

    name: ClassVar[str] = "pre_aggregator"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        runs_whole(cls, "pre_aggregate", PreAggregator)

    def pre_aggregate(self, xs: Sequence[Array]) -> list[Array]:
        """Turn n vectors into k; see `PreAggregator.pre_aggregate`."""
        if (lazy := as_lazy(xs)) is not None:
            return lazy_rows(self, lazy)  # type: ignore[no-any-return]  # one lazy (k, d) array
        return self.run_rows(xs)

    @property
    def single(self) -> bool:
        """Whether the answer is one row: no."""
        return False

    def finish(self, answer: list[Array]) -> Any:
        """Return all rows."""
        return answer
