"""A script without a guard is told so, not shown the inside of a process start."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio
from byzflow.engine.actor.runtime import Runtime
asyncio.run(Runtime.acquire("process"))
"""


@pytest.mark.processes
def test_a_script_without_a_guard_is_told_to_add_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: Worker processes had to start")
    assert '`if __name__ == "__main__":`' in last
