"""What a run is, in words that a checkpoint keeps: its seed, and its rules with their options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ("described", "differences")

HINTS = ("chunk_size", "mixing")  # change no result, or are told in every round
PLAIN = (type(None), bool, int, float, str)
MOST = 3  # differences that are told


def described(value: Any) -> str:
    """Return the class of a rule, and its options as far as they are plain values or rules.

    A number of NumPy's is the same option as Python's.

    Examples
    --------
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
    >>> described(CoordinateWiseTrimmedMean(f=np.int64(2))), described(None)
    ('CoordinateWiseTrimmedMean(f=2)', 'None')
    """
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in PLAIN:
        return repr(value)
    if isinstance(value, list | tuple):
        return f"({', '.join(map(described, value))})"
    name = type(value).__name__
    if not dataclasses.is_dataclass(value):
        return name
    known = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    options = (f"{key}={described(option)}" for key, option in known.items() if key not in HINTS)
    return f"{name}({', '.join(options)})"


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between two runs, if much, the first of it; what was not noted does not.

    Examples
    --------
    >>> differences({"seed": "1"}, {"seed": "2", "rule": "Krum(f=1)"})
    ['its seed was 1, this one has 2']
    """
    keys = [key for key in now if before.get(key, now[key]) != now[key]]
    told = [f"its {key} was {before[key]}, this one has {now[key]}" for key in keys[:MOST]]
    return told if len(keys) <= MOST else [*told, f"{len(keys) - MOST} more differ"]
