"""Every notebook runs from its first cell to its last."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import jupytext
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_in_small_mode(path: Path) -> None:
    notebook = jupytext.read(path)
    environment = {"BYZFLOW_SMALL": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    with mock.patch.dict(os.environ, environment):
        NotebookClient(notebook, timeout=240, startup_timeout=240, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_the_sources_hold_no_outputs() -> None:
    assert NOTEBOOKS
    assert all(path.read_text(encoding="utf-8").startswith("# ---\n# jupyter:") for path in NOTEBOOKS)
