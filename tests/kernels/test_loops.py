"""Compiled loops: where they are kept, and what would make them slow to compile."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from numba.core import caching

import byzflow
from byzflow.kernels.native import loops

ROOT = Path(byzflow.__file__).parent
DECORATORS = {"loop", "compiled"}


def test_where_nothing_can_be_kept_loops_are_compiled_all_the_same(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    loops._warn.cache_clear()
    with pytest.warns(RuntimeWarning, match="NUMBA_CACHE_DIR"):
        double = loops.loop()(lambda x: 2 * x)
    assert double(3) == 6


def compiled_loops():
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                names = {getattr(getattr(d, "func", d), "id", None) for d in node.decorator_list}
                if names & DECORATORS:
                    yield pytest.param(node, id=f"{path.stem}.{node.name}")


@pytest.mark.parametrize("function", [*compiled_loops()])
def test_no_loop_has_what_takes_numba_seconds_to_compile(function):
    """It writes the text of an error for arrays that differ in shape, and compiles a sort for each caller."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign | ast.AugAssign) and not isinstance(node.value, ast.Constant):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                index = target.slice if isinstance(target, ast.Subscript) else None
                parts = index.elts if isinstance(index, ast.Tuple) else [index]
                assert not any(isinstance(part, ast.Slice) for part in parts), ast.unparse(node)
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("sort", "argsort"), ast.unparse(node)
