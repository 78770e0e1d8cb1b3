"""The rules of the house that are tedious to check by eye: who imports whom, what is public, what is said."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import byzflow

PACKAGE = Path(byzflow.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = (
    {"exceptions"},
    {"kernels"},
    {"operators"},
    {"aggregators", "pre_aggregators", "attacks"},
    {"engine", "configs"},
    {"experiments", "testing", "utils"},
    {"cli"},
    {"__main__"},
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
ABOVE = {  # in the engine
    "actor": {"graph", "rounds", "node", "parameter_server", "peer_to_peer"},
    "graph": {"rounds", "node", "parameter_server", "peer_to_peer"},
    "rounds": {"graph", "node", "parameter_server", "peer_to_peer"},
    "node": {"parameter_server", "peer_to_peer"},
    "parameter_server": {"peer_to_peer"},
}
SIBLINGS_MAY_MEET = {"engine", "configs", "experiments", "utils"}


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The second part of a dotted name: ``byzflow.kernels.rows`` lives in ``kernels``."""
    return (module.split(".") + [""])[1]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> list[tuple[int, str]]:
    """Line and dotted name of every import from byzflow, also those inside functions."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "byzflow":
            found += [(node.lineno, f"byzflow.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.lineno, node.module or ""))
    return [(line, name) for line, name in found if name.split(".")[0] == "byzflow"]


def export_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions; each in alphabetic order, as ruff sorts them."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name)


def by_module(function):
    return pytest.mark.parametrize("path", FILES, ids=dotted)(function)


@by_module
def test_imports_point_downwards(path):
    here = room(dotted(path))
    if here == "":
        return
    assert here in RANK, f"{path.name}: the room {here!r} has no layer; add it to LAYERS"
    for line, name in imported(path):
        there = room(name)
        if there not in RANK or there == here:
            continue
        upward = RANK[there] > RANK[here]
        sideways = RANK[there] == RANK[here] and here not in SIBLINGS_MAY_MEET
        assert not upward, f"{path}:{line} imports {name}: {here} may not know {there}"
        assert not sideways, f"{path}:{line} imports {name}: {here} and {there} are blind to each other"


@by_module
def test_imports_in_the_engine_point_downwards(path):
    _, outer, inner, *_ = (*dotted(path).split("."), "", "")
    above = ABOVE.get(inner, set()) if outer == "engine" else set()
    for line, name in imported(path):
        upward = name.startswith("byzflow.engine.") and name.split(".")[2] in above
        assert not upward, f"{path}:{line} imports {name}, which stands on it"


@by_module
def test_no_import_is_relative(path):
    relative = [n.lineno for n in ast.walk(tree(path)) if isinstance(n, ast.ImportFrom) and n.level]
    assert not relative, f"{path}: relative imports in lines {relative}"


@by_module
def test_module_says_what_it_is_for(path):
    module = tree(path)
    assert ast.get_docstring(module), f"{path}: the first line is a docstring"
    assert "Placeholder" not in (ast.get_docstring(module) or ""), f"{path}: still a placeholder"


@by_module
def test_file_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, f"{path}: split at 400 lines"


@by_module
def test_exports_are_sorted_and_complete(path):
    if path.name == "__main__.py":
        return
    module = importlib.import_module(dotted(path))
    exported = getattr(module, "__all__", None)
    assert isinstance(exported, tuple), f"{path}: __all__ is a tuple"
    assert list(exported) == sorted(exported, key=export_order), f"{path}: __all__ is sorted"
    missing = [name for name in exported if not hasattr(module, name)]
    assert not missing, f"{path}: __all__ names {missing}, which do not exist"
    defined = {
        node.name
        for node in tree(path).body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and not node.name.startswith("_")
    }
    assert defined <= set(exported), f"{path}: public but not in __all__: {sorted(defined - set(exported))}"


@by_module
def test_everything_public_has_a_docstring(path):
    module = importlib.import_module(dotted(path)) if path.name != "__main__.py" else None
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)) or value.__module__ != module.__name__:
            continue
        assert value.__doc__, f"{path}: {name} has no docstring"
        for member, function in vars(value).items() if inspect.isclass(value) else ():
            if inspect.isfunction(function) and not member.startswith("_"):
                assert inspect.getdoc(getattr(value, member)), f"{path}: {name}.{member} has no docstring"


@by_module
def test_private_names_stay_in_their_package(path):
    """A name with a leading underscore is private to the module or package that defines it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("byzflow"):
            private = [alias.name for alias in node.names if alias.name.startswith("_")]
            package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
            home = (node.module or "").startswith(package + ".") or node.module == package
            assert not private or home, f"{path}:{node.lineno} reaches for {private} of {node.module}"


def test_every_setting_is_read():
    rooms = yaml.safe_load((PACKAGE / "byzflow.yaml").read_text(encoding="utf-8"))["byzflow"]
    calls = [node for path in FILES for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    read = {argument.value for call in calls for argument in call.args if isinstance(argument, ast.Constant)}
    idle = {f"{room}.{name}" for room, names in rooms.items() for name in names} - read
    assert not idle, f"byzflow.yaml offers {sorted(idle)}, which nobody reads"


def test_package_is_typed():
    assert (PACKAGE / "py.typed").exists()


def test_rules_import_neither_dask_nor_bokeh():
    code = (
        "import sys, byzflow.aggregators, byzflow.pre_aggregators, byzflow.attacks\n"
        "import byzflow.aggregators.geometric_wise, byzflow.aggregators.coordinate_wise\n"
        "import byzflow.aggregators.norm_wise\n"
        "print(sorted({'dask', 'distributed', 'bokeh'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True
    )
    assert done.stdout.strip() == "[]"
