"""A thousand rounds leave nothing behind: memory, threads, descriptors, tasks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Bytes that 450 rounds may add; one small object kept for each is 25 kB. Measured: 0.4 kB traced without
# a cluster; up to 71 kB in one, which is what Dask happens to have under way; resident 37 to 86 kB.
TRACED = {"plain": 10_000, "thread": 150_000}
RESIDENT = 400_000
MEMORY = ("traced", "resident")


@pytest.mark.parametrize("kind", ["plain", "thread"])
def test_a_thousand_rounds_leave_nothing_behind(kind: str) -> None:
    command = [sys.executable, "-m", "tests.engine.parameter_server.footprint", kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    first, middle, last = told["readings"]
    for what in first.keys() - set(MEMORY):
        assert first[what] == middle[what] == last[what], what
    assert last["traced"] - middle["traced"] < TRACED[kind]
    assert last["resident"] - middle["resident"] < RESIDENT
    assert told["history"] == [950, 999, 50]
