"""The generated pages are those that the code would generate, and what the others show runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

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
