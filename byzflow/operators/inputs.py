"""What a graph wires to an operator: found by name, and known to be a sequence of vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from byzflow.kernels.template import Array

__all__ = ("as_sequence", "input_of", "wired")


def wired(inputs: Mapping[str, Any], key: str, who: str) -> Sequence[Array]:
    """Return the vectors that a graph wires to the input `key` of the operator `who`.

    Raises
    ------
    KeyError
        If the input is missing.
    TypeError
        If it is no sequence.
    """
    return as_sequence(input_of(inputs, key, who), who)


def input_of(inputs: Mapping[str, Any], key: str, who: str) -> Any:
    """Return what a graph wires to the input `key` of the operator `who`; `KeyError` if it is missing."""
    if key not in inputs:
        raise KeyError(f"{who} needs the input {key!r}; got {sorted(inputs)}. Wire it to the graph.")
    return inputs[key]


def as_sequence(value: Any, who: str) -> Sequence[Array]:
    """Return `value` if it is a list, a tuple or a stacked array.

    Raises
    ------
    TypeError
        If it is none of them.
    """
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return value
    if getattr(value, "ndim", 0) >= 2:
        return value  # type: ignore[no-any-return]  # a stacked array is a sequence of its rows
    raise TypeError(f"{who} needs a sequence of vectors; got {type(value).__name__}. Pass a list or a tuple.")
