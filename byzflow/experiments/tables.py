"""Read one TOML table into one frozen dataclass, strictly; what the tables mean lives in `config`."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from byzflow.exceptions import ConfigError, suggest

__all__ = ("at_least", "choose", "read", "reject_unknown", "take_name", "within")

T = TypeVar("T")

_KINDS = {
    int: "an integer",
    float: "a number",
    str: "a string",
    bool: "true or false",
    Path: "a path in quotes",
}


def read(cls: type[T], table: object, where: str) -> T:
    """Build the dataclass `cls` from a table, refusing what it does not know.

    Parameters
    ----------
    cls : type
        A dataclass whose fields are ``int``, ``float``, ``str``, ``bool``, ``Path``, a tuple of one of
        them, or one of them ``| None``.
    table : Mapping
        The parsed table.
    where : str
        How the user finds the table, for example ``[training]``.

    Raises
    ------
    ConfigError
        For an unknown or missing key, or a value of the wrong kind.

    Examples
    --------
    >>> from byzflow.experiments.config import Nodes
    >>> read(Nodes, {"honest": 4}, "[nodes]").honest
    4
    >>> read(Nodes, {"honset": 4}, "[nodes]")
    Traceback (most recent call last):
    ...
    byzflow.exceptions.ConfigError: [nodes] takes the keys byzantine, honest; got 'honset'. Did you mean ...
    """
    if not isinstance(table, Mapping):
        raise ConfigError(
            f"{where} must be a table of keys; got {table!r}. Write {where} on a line of its own."
        )
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]  # T is a dataclass
    reject_unknown(table, fields, where)
    hints = typing.get_type_hints(cls)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise ConfigError(f"{where} needs the key {name!r}; got {_listing(table)}. Add {name} = … to it.")
    return cls(**{key: _value(hints[key], value, f"{where} {key}") for key, value in table.items()})


def choose(choices: Mapping[str, type[T]], table: object, where: str) -> T:
    """Build the dataclass that the table's ``name`` picks, from the table's other keys.

    Examples
    --------
    >>> from byzflow.experiments.partition import PARTITIONS
    >>> choose(PARTITIONS, {"name": "dirichlet", "alpha": 0.1}, "[partition]")
    Dirichlet(alpha=0.1)
    """
    rest, name = take_name(table, choices, where)
    if name not in choices:
        raise ConfigError(
            f"{where} name must be one of {', '.join(sorted(choices))}; got {name!r}.{suggest(name, choices)}"
        )
    return read(choices[name], rest, f"{where} {name}:")


def take_name(table: object, valid: Mapping[str, Any], where: str) -> tuple[dict[str, Any], str]:
    """Split a table into its other keys and its ``name``."""
    if isinstance(table, str):
        return {}, table
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        example = next(iter(sorted(valid)), "…")
        raise ConfigError(f'{where} needs a name; got {table!r}. Write for example name = "{example}" in it.')
    return {key: value for key, value in table.items() if key != "name"}, table["name"]


def reject_unknown(table: Mapping[str, Any], valid: Mapping[str, Any], where: str) -> None:
    """Raise `ConfigError` for the first key of `table` that is not in `valid`."""
    for key in table:
        if key not in valid:
            known = ", ".join(sorted(valid)) or "none at all"
            advice = suggest(str(key), valid) or " Remove it."
            raise ConfigError(f"{where} takes the keys {known}; got {key!r}.{advice}")


def at_least(where: str, low: float, **values: float) -> None:
    """Raise `ConfigError` unless every value is at least `low`."""
    for name, value in values.items():
        if not value >= low:
            raise ConfigError(f"{where} {name} must be at least {low}; got {value}. Raise it.")


def within(where: str, low: float, high: float, **values: float) -> None:
    """Raise `ConfigError` unless every value lies in the open interval (`low`, `high`)."""
    for name, value in values.items():
        if not low < value < high:
            raise ConfigError(
                f"{where} {name} must lie between {low} and {high}, both excluded; got {value}. Change it."
            )


def _value(hint: Any, value: object, where: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    kind = next(option for option in options if option is not type(None))
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ConfigError(f"{where} must be a list; got {value!r}. Write it in square brackets.")
        return tuple(_value(item, part, where) for part in value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{where} must be {_KINDS[kind]}; got {value!r}. Correct the value.")
    return value


def _listing(table: Mapping[str, Any]) -> str:
    return ", ".join(map(str, table)) or "an empty table"
