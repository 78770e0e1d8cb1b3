"""The generated pages are those that the code would generate, and what the others show runs."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from byzflow.experiments.registry import registry
from tests.cases import CASES

ROOT = Path(__file__).parent.parent


def test_docs_rules_is_current():
    script = [sys.executable, str(ROOT / "docs" / "make_rules.py"), "--check"]
    assert subprocess.run(script, check=False).returncode == 0, "run: python docs/make_rules.py"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_python_in_the_documents_runs(page):
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    for block in blocks:
        done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


RULES = [rule for kind in ("aggregators", "pre-aggregators", "attacks") for rule in registry(kind)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_is_made_and_listed_as_contributing_says(rule):
    frozen = is_dataclass(rule) and rule.__dataclass_params__.frozen
    assert frozen, "decorate it with byzflow.operators.base.frozen"
    package = rule.__module__.rpartition(".")[0]
    # The reference exports the base class alone from byzflow.aggregators.
    exported = package == "byzflow.aggregators" or rule.__name__ in importlib.import_module(package).__all__
    assert exported, f"name it in {package}/__init__.py"
    alone = rule.__name__ in ("DissensusAttack", "LabelFlipAttack")  # they read more than rows
    assert alone or rule in {case.rule_class() for case in CASES}, "give it a row in tests/cases.py"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_docstrings_of_rules_say_all_that_a_user_asks(rule):
    text = inspect.getdoc(rule)
    found = set(re.findall(r"^(\w+)\n-+$", text, re.M))
    assert {"Raises", "Notes", "Examples"} <= found
    assert "Parameters" in found or not fields(rule), "its options are not described"
    assert "References" in found or "Folklore" in text, "no paper"
    assert "``" in text.partition("Parameters")[0], "no formula"
    assert "O(" in text, "no cost"
