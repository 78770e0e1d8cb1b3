"""Calls written for the reference fit: its names, parameters and defaults are in `signatures.txt`."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

LINES = (Path(__file__).parent / "signatures.txt").read_text(encoding="utf-8").split("\n")[:-1]


def found(dotted: str) -> tuple[Any, bool]:
    """What a dotted path names, and whether its first parameter is an instance."""
    parts = dotted.split(".")
    at = next(i for i, part in enumerate(parts) if part[0].isupper() or i == len(parts) - 1)
    place = importlib.import_module(".".join(["byzflow", *parts[:at]]))
    for part in parts[at:-1]:
        place = getattr(place, part)
    is_method = inspect.isclass(place) and inspect.isfunction(inspect.getattr_static(place, parts[-1]))
    return getattr(place, parts[-1]), is_method


def expected(parameters: str) -> tuple[list[str], list[str], dict[str, Any]]:
    """Names that may be passed by position, names that may not, and defaults."""
    arguments = ast.parse(f"def f({parameters}): ...").body[0].args  # type: ignore[attr-defined]
    by_position, by_keyword = ([arg.arg for arg in group] for group in (arguments.args, arguments.kwonlyargs))
    first = len(by_position) - len(arguments.defaults)
    given = [*zip(by_position[first:], arguments.defaults, strict=True)]
    given += [pair for pair in zip(by_keyword, arguments.kw_defaults, strict=True) if pair[1] is not None]
    return by_position, by_keyword, {name: ast.literal_eval(value) for name, value in given}


@pytest.mark.parametrize("line", LINES)
def test_a_call_for_the_reference_fits(line: str) -> None:
    dotted, _, parameters = line.rstrip(")").partition("(")
    what, is_method = found(dotted)
    ours = list(inspect.signature(what).parameters.values())[1 if is_method else 0 :]
    by_position, by_keyword, defaults = expected(parameters)
    positional = [p.name for p in ours if p.kind is not p.KEYWORD_ONLY]
    assert positional[: len(by_position)] == by_position
    known = {p.name: p for p in ours}
    assert set(by_keyword) <= set(known)
    assert {name: known[name].default for name in defaults} == defaults
    more = [p.name for p in ours if p.name not in (*by_position, *by_keyword) and p.default is p.empty]
    assert not more, f"the reference does not pass {more}"
