"""What an attack is: what it says it needs in, one malicious vector out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

from byzflow.kernels.rows import Array
from byzflow.operators.base import OpContext, Operator
from byzflow.operators.columnwise import ColumnwiseOperator
from byzflow.operators.elementwise import ElementwiseOperator
from byzflow.operators.inputs import as_sequence, input_of
from byzflow.operators.lazy import as_lazy, lazy_rows
from byzflow.operators.linear import LinearOperator
from byzflow.operators.overriding import runs_whole
from byzflow.operators.rows import RowOperator

__all__ = ("Attack", "ColumnwiseAttack", "ElementwiseAttack", "LinearAttack", "RowAttack", "StatefulAttack")


class Attack(Operator, ABC):
    """Base of every attack.

    Attributes
    ----------
    uses_base_grad : bool
        Needs the vector that the node would send if it were honest.
    uses_model_batch : bool
        Needs the model and a batch of data.
    uses_honest_grads : bool
        Needs what the honest nodes send.
    """

    name: ClassVar[str] = "attack"
    uses_base_grad: ClassVar[bool] = False
    uses_model_batch: ClassVar[bool] = False
    uses_honest_grads: ClassVar[bool] = False

    @abstractmethod
    def apply(
        self,
        *,
        model: Any = None,
        x: Array | None = None,
        y: Array | None = None,
        honest_grads: Sequence[Array] | None = None,
        base_grad: Array | None = None,
    ) -> Array:
        """Return one malicious vector, with the library, dtype, device and shape of what came in.

        Raises
        ------
        ValueError
            If an input that the attack's flags ask for is missing.
        """

    @classmethod
    def needs(cls) -> tuple[str, ...]:
        """Return the names of the inputs that the flags ask for."""
        return _needs(cls.uses_model_batch, cls.uses_honest_grads, cls.uses_base_grad)

    def compute(self, inputs: Mapping[str, Any], *, context: OpContext) -> Any:
        """Apply the attack to exactly the inputs that its flags ask for.

        Raises
        ------
        KeyError
            If one of them is missing.
        """
        missing = [key for key in self.needs() if key not in inputs]
        if missing:
            raise KeyError(
                f"{type(self).__name__} needs the inputs {self.needs()}; {missing} missing. Wire them."
            )
        return self.apply(**{key: inputs[key] for key in self.needs()})


@cache
def _needs(model_batch: bool, honest_grads: bool, base_grad: bool) -> tuple[str, ...]:
    return (
        *(("model", "x", "y") if model_batch else ()),
        *(("honest_grads",) if honest_grads else ()),
        *(("base_grad",) if base_grad else ()),
    )


class RowAttack(RowOperator, Attack):
    """An attack that is a rule over rows: the honest vectors, or the node's own one."""

    name: ClassVar[str] = "attack"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        runs_whole(cls, "apply", Attack)

    @classmethod
    @cache
    def _key(cls) -> str:
        """Return the one input that holds the rows."""
        names = cls.needs()
        if names not in (("honest_grads",), ("base_grad",)):
            raise TypeError(
                f"{cls.__name__} needs either uses_honest_grads or uses_base_grad; got inputs {names}. "
                f"Set one of the two to True in the class."
            )
        return names[0]

    def vectors(self, inputs: Mapping[str, Any]) -> Sequence[Array]:
        """Return the rows among the graph inputs."""
        key = self._key()
        return self._rows(key, input_of(inputs, key, type(self).__name__))

    def apply(
        self,
        *,
        model: Any = None,
        x: Array | None = None,
        y: Array | None = None,
        honest_grads: Sequence[Array] | None = None,
        base_grad: Array | None = None,
    ) -> Array:
        """Return one malicious vector; see `Attack.apply`."""
        key = self._key()
        given = honest_grads if key == "honest_grads" else base_grad
        if given is None:
            raise ValueError(f"{type(self).__name__} needs {key}; got None. Pass {key}=...")
        if (lazy := as_lazy(given)) is not None:
            return lazy_rows(self, lazy if key == "honest_grads" else lazy[None])[0]
        return self.run_rows(self._rows(key, given))[0]

    def _rows(self, key: str, value: Any) -> Sequence[Array]:
        return as_sequence(value, type(self).__name__) if key == "honest_grads" else [value]


class ColumnwiseAttack(ColumnwiseOperator, RowAttack):
    """An attack whose author writes ``columns(X)`` over the honest vectors."""


class ElementwiseAttack(ElementwiseOperator, RowAttack):
    """An attack whose author writes ``elements(x, span)``."""


class LinearAttack(LinearOperator, RowAttack):
    """An attack whose author writes ``weights(geometry)`` of the honest vectors."""


class StatefulAttack(Attack):
    """An attack that carries something from round to round; it is passed in and returned, never kept."""

    @abstractmethod
    def step(self, state: Mapping[str, Array] | None, **inputs: Any) -> tuple[Array, Mapping[str, Array]]:
        """Return the malicious vector and the state for the next round; `inputs` as for `apply`."""

    def apply(
        self,
        *,
        model: Any = None,
        x: Array | None = None,
        y: Array | None = None,
        honest_grads: Sequence[Array] | None = None,
        base_grad: Array | None = None,
    ) -> Array:
        """Attack as in a first round."""
        given = {"model": model, "x": x, "y": y, "honest_grads": honest_grads, "base_grad": base_grad}
        return self.step(None, **{key: given[key] for key in self.needs()})[0]
