"""What an aggregator is: n vectors in, one out; and the two kinds that the engine can take apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import array_api_compat

from byzflow.kernels.rows import Array
from byzflow.operators.base import OpContext, Operator
from byzflow.operators.columnwise import ColumnwiseOperator
from byzflow.operators.inputs import wired
from byzflow.operators.lazy import as_lazy, lazy_rows
from byzflow.operators.linear import LinearOperator, MixingOperator
from byzflow.operators.overriding import runs_whole
from byzflow.operators.rows import RowOperator

__all__ = (
    "Aggregator",
    "ColumnwiseAggregator",
    "LinearAggregator",
    "MixingAggregator",
    "RowAggregator",
    "StatefulAggregator",
)


class Aggregator(Operator, ABC):
    """Base of every rule that reduces n vectors to one.

    A subclass of yours overrides `aggregate`; it is then one task. To be spread over workers, derive from
    `ColumnwiseAggregator` (write ``columns``) or `LinearAggregator` (write ``weights``).
    """

    name: ClassVar[str] = "aggregator"
    input_key: ClassVar[str] = "gradients"

    @abstractmethod
    def aggregate(self, gradients: Sequence[Array]) -> Array:
        """Reduce n vectors to one.

        Parameters
        ----------
        gradients : sequence of Array, Array of shape (n, ...), or dask.array of shape (n, d)
            One vector for each node, in node order, all of one shape.

        Returns
        -------
        Array
            Library, dtype, device and shape of the first vector; lazy, (d,), for a dask.array. Whole numbers
            give the library's floats: float64 in NumPy, torch's default dtype.
        """

    def compute(self, inputs: Mapping[str, Any], *, context: OpContext) -> Any:
        """Aggregate the input ``"gradients"``.

        Raises
        ------
        KeyError
            If it is missing.
        TypeError
            If it is no sequence.
        """
        return self.aggregate(wired(inputs, self.input_key, type(self).__name__))


class RowAggregator(RowOperator, Aggregator):
    """An aggregator that is a rule over rows: `aggregate` is derived from its phases."""

    name: ClassVar[str] = "aggregator"
    input_key: ClassVar[str] = "gradients"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        runs_whole(cls, "aggregate", Aggregator)

    def aggregate(self, gradients: Sequence[Array]) -> Array:
        """Reduce n vectors to one; see `Aggregator.aggregate`."""
        if (lazy := as_lazy(gradients)) is not None:
            return lazy_rows(self, lazy)[0]
        return self.run_rows(gradients)[0]


class ColumnwiseAggregator(ColumnwiseOperator, RowAggregator):
    """An aggregator whose author writes ``columns(X)``: a block of columns to one value for each."""


class MixingAggregator(MixingOperator, RowAggregator):
    """An aggregator whose author writes ``measure`` and ``solve``: its statistics to weights of the rows."""


class LinearAggregator(LinearOperator, RowAggregator):
    """An aggregator whose author writes ``weights(geometry)``: one weight for each row."""


class StatefulAggregator(Aggregator):
    """An aggregator that carries something from round to round; it is passed in and returned, never kept.

    The state is a mapping of names to arrays, or None before the first round.
    """

    by_node: ClassVar[bool] = False
    """Whether the state has something for each node, so that it fits no other rows; see `regrouped`.

    Such a rule says by `without` how it does without the rows of some of these nodes.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "step" in vars(cls) and "weighted_step" not in vars(cls):
            cls.weighted_step = StatefulAggregator.weighted_step  # type: ignore[method-assign]  # as if written

    @abstractmethod
    def step(
        self, gradients: Sequence[Array], state: Mapping[str, Array] | None
    ) -> tuple[Array, Mapping[str, Array]]:
        """Return the aggregate and the state for the next round.

        Parameters
        ----------
        gradients : sequence of Array, Array of shape (n, ...), or dask.array of shape (n, d)
            As for `aggregate`.
        state : mapping of str to Array, or None
            What the last step returned; None before the first round.
        """

    def weighted_step(
        self, gradients: Sequence[Array], state: Mapping[str, Array] | None
    ) -> tuple[Array, Mapping[str, Array], Sequence[float] | None]:
        """Do as `step`, and return with it the weight of each vector in the aggregate.

        There are none, None, where it is no weighted sum of them, whatever is added, or where they are lazy.
        A subclass that overrides `step` alone has none: nobody knows what it adds.
        """
        return (*self.step(gradients, state), None)

    def regrouped(self, state: Mapping[str, Array], places: Sequence[int | None]) -> Mapping[str, Array]:
        """Return the state of a rule that is `by_node` for other nodes, as when a peer's neighbours change.

        By default every array of the state has an entry for each node along its first axis, and zeros for
        one that is new; override it where that is not so.

        Parameters
        ----------
        state : mapping
            What `step` returned.
        places : sequence of int or None
            For each node of the next round its place in `state`; None for a node that is new.
        """
        return {name: _taken(value, places) for name, value in state.items()}

    def aggregate(self, gradients: Sequence[Array]) -> Array:
        """Aggregate as in a first round."""
        return self.step(gradients, None)[0]


def _taken(value: Any, places: Sequence[int | None]) -> Any:
    """Return the entries of an array at these places; zeros where there is none."""
    xp = array_api_compat.array_namespace(value)
    return xp.stack([xp.zeros_like(value[0, ...]) if p is None else value[p, ...] for p in places])
