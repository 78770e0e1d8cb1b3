"""Checks of an operator's fields: what depends on n is checked at call, the rest at construction."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from byzflow.exceptions import ToleranceError

__all__ = (
    "acts",
    "carried",
    "choice",
    "finite",
    "index",
    "index_without",
    "mapping",
    "node_weights",
    "nonnegative",
    "one_for_each",
    "positive",
    "positive_real",
    "pre_aggregators",
    "real",
    "several",
    "tolerates",
    "weights_without",
)


def acts(name: str, value: Any, method: str, hint: str) -> None:
    """Raise TypeError unless `value` is an object with this method, not a class of them."""
    if isinstance(value, type):
        raise TypeError(
            f"{name} must be an object with {method}(); got the class {value.__name__}. Make one: "
            f"{value.__name__}(...)."
        )
    if not callable(getattr(value, method, None)):
        raise TypeError(f"{name} must be an object with {method}(); got {type(value).__name__}. {hint}")


def carried(who: str, state: Any, *names: str) -> list[Any]:
    """Return what the state of the last round holds under these names.

    Raises
    ------
    TypeError
        If it is no mapping.
    ValueError
        If it holds something else.

    Examples
    --------
    >>> carried("ROPAttack", {"momentum": 2.0}, "momentum")
    [2.0]
    """
    if not isinstance(state, Mapping):
        raise TypeError(
            f"{who} needs a mapping as state; got {type(state).__name__}. Pass what the last step returned, "
            f"or None."
        )
    if not set(names) <= set(state):
        raise ValueError(
            f"{who} needs a state with {', '.join(names)}; got {sorted(map(str, state))}. Pass what its own "
            f"last step returned, or None."
        )
    return [state[name] for name in names]


def index(name: str, value: object) -> int:
    """Return `value` if it is a whole number.

    Raises
    ------
    TypeError
        If it is not.

    Examples
    --------
    >>> index("f", 2)
    2
    """
    if type(value) is int:  # as nearly always; the check of any other kind takes ten times as long
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number; got {value!r}. Pass an int.")
    return int(value)


def nonnegative(name: str, value: object) -> None:
    """Raise unless `value` is a whole number of at least 0."""
    if index(name, value) < 0:
        raise ValueError(f"{name} must be at least 0; got {value!r}. Pass 0 or more.")


def positive(name: str, value: object) -> None:
    """Raise unless `value` is a whole number of at least 1."""
    if index(name, value) < 1:
        raise ValueError(f"{name} must be at least 1; got {value!r}. Pass 1 or more.")


def real(name: str, value: object, *, least: float = -math.inf) -> None:
    """Raise unless `value` is a real number of at least `least` (NaN never is), such as a float can hold."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number; got {value!r}. Pass a float.")
    try:
        number = float(value)
    except OverflowError:  # a whole number of more than 308 digits
        number = math.nan
    if math.isnan(number):
        raise ValueError(
            f"{name} must be a number within float64; got {value!r:.30}. Pass an ordinary number."
        )
    if number < least:
        raise ValueError(f"{name} must be at least {least:g}; got {value!r}. Raise it.")


def finite(name: str, value: object) -> None:
    """Raise unless `value` is a finite real number."""
    real(name, value)
    if not math.isfinite(float(value)):  # type: ignore[arg-type]  # real() has checked the kind
        raise ValueError(f"{name} must be finite; got {value!r}. Pass an ordinary number.")


def positive_real(name: str, value: object) -> None:
    """Raise unless `value` is a real number greater than 0."""
    real(name, value)
    if not float(value) > 0.0:  # type: ignore[arg-type]  # real() has checked the kind
        raise ValueError(f"{name} must be greater than 0; got {value!r}. Raise it.")


def choice(name: str, value: object, options: tuple[str, ...]) -> None:
    """Raise unless `value` is one of the strings in `options`."""
    if not isinstance(value, str) or value not in options:
        named = ", ".join(map(repr, options))
        raise ValueError(f"{name} must be one of {named}; got {value!r}. Name one of them.")


def several(name: str, value: Any, hint: str = "Pass a list or a tuple.") -> tuple[Any, ...]:
    """Return the members of a list, a tuple or anything else that can be iterated but a string.

    Raises
    ------
    TypeError
        If there is nothing to iterate.

    Examples
    --------
    >>> several("perm", range(3))
    (0, 1, 2)
    """
    # The numbers of an array become Python's own.
    members = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(members, (str, bytes)) or not isinstance(members, Iterable):
        raise TypeError(f"{name} must be a sequence; got {type(value).__name__}. {hint}")
    return tuple(members)


def mapping(name: str, value: Any, hint: str = "Pass a dict, or None.") -> dict[str, Any]:
    """Return a mapping as a new dict, an empty one for None.

    Raises
    ------
    TypeError
        If it is none.

    Examples
    --------
    >>> mapping("metadata", None)
    {}
    """
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping; got {type(value).__name__}. {hint}")
    return dict(value or {})


def node_weights(value: Any) -> tuple[float, ...] | None:
    """Return the weights of nodes, finite and not negative, or None if there are none.

    Examples
    --------
    >>> node_weights([3, 1])
    (3.0, 1.0)
    """
    if value is None:
        return None
    weights = several("node_weights", value)
    for weight in weights:
        finite("node_weights", weight)
        real("node_weights", weight, least=0.0)
    return tuple(map(float, weights))


def tolerates(rule: Any, condition: bool, what: str, n: int) -> None:
    """Raise `ToleranceError` unless a condition on the ``f`` of a rule and its n rows holds.

    Examples
    --------
    >>> from types import SimpleNamespace as Rule
    >>> tolerates(Rule(f=2), 2 * 2 < 4, "2 f < n", 4)
    Traceback (most recent call last):
        ...
    byzflow.exceptions.ToleranceError: SimpleNamespace needs 2 f < n; got f=2, n=4. Lower f or add nodes.
    """
    if not condition:
        raise ToleranceError(
            f"{type(rule).__name__} needs {what}; got f={rule.f}, n={n}. Lower f or add nodes."
        )


def one_for_each(who: str, weights: Sequence[float] | None, n: int) -> None:
    """Raise ValueError unless there are n node weights or none at all."""
    if weights is not None and len(weights) != n:
        raise ValueError(
            f"{who} needs one weight for each node; got {len(weights)} for n={n}. "
            f"Pass n node_weights, or none."
        )


def index_without(index: int, nodes: Collection[int]) -> int | None:
    """Return where a node's row stands when those of other nodes are missing; None if it is missing itself.

    Examples
    --------
    >>> index_without(3, {0, 5}), index_without(3, {3})
    (2, None)
    """
    return None if index in nodes else index - sum(node < index for node in nodes)


def weights_without(weights: Sequence[float] | None, nodes: Collection[int]) -> tuple[float, ...] | None:
    """Return the node weights of the rows that are left when those of some nodes are missing.

    Examples
    --------
    >>> weights_without((3.0, 1.0, 2.0), {1})
    (3.0, 2.0)
    """
    return None if weights is None else tuple(w for i, w in enumerate(weights) if i not in nodes)


def pre_aggregators(value: Any) -> tuple[Any, ...]:
    """Return pre-aggregators as a tuple.

    Raises
    ------
    TypeError
        If one of them is something else.
    """
    parts = several("pre_aggregators", value)
    for part in parts:
        acts("each of pre_aggregators", part, "pre_aggregate", "Put rules last.")
    return parts
