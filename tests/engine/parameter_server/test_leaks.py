"""A thousand rounds leave nothing behind: memory, threads, descriptors, tasks."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

# Bytes that 450 rounds may add; one small object kept for each is 25 kB. Measured: 0.4 kB traced without
# a cluster; up to 71 kB in one, which is what Dask happens to have under way; resident 37 to 86 kB.
TRACED = {"plain": 10_000, "thread": 150_000}
RESIDENT = 400_000
MEMORY = ("traced", "resident")
SPARE = {"threads": 4, "descriptors": 8}  # that a machine which stops for a while may bring in; not 900


# Objects that are not ours and may come and go: messages that Dask has under way, what it logs by the clock,
# and the timers of calls that were in time, which asyncio drops when they are half of its heap. Measured: up
# to 45 more, whatever the number of rounds; one for each round is ten times as many. Plain: none at all.
WAVERING = {"plain": 0, "thread": 224}


def footprint(kind: str, work: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.engine.parameter_server.footprint", kind, work]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def kept(kind: str, work: str) -> set[str]:
    """Return the types of which rounds leave objects behind, or entries in containers."""
    told = footprint(kind, work)
    most = WAVERING[kind]
    assert most < told["rounds"] / 2
    return {name for name, more in told["grown"].items() if more > (0 if "byzflow" in name else most)}


@pytest.mark.parametrize("kind", ["plain", "thread"])
def test_no_object_is_kept_of_a_round(kind: str) -> None:
    assert kept(kind, "count") == set()


@pytest.mark.parametrize(
    ("kind", "plant", "seen"),
    [
        ("plain", "node", "in <class 'list'>"),
        ("thread", "history", "<class 'byzflow.engine.parameter_server.report.RoundReport'>"),
    ],
)
def test_one_number_or_report_kept_of_each_round_is_seen(kind: str, plant: str, seen: str) -> None:
    assert seen in kept(kind, f"count-{plant}")


@pytest.mark.parametrize("kind", ["plain", "thread"])
def test_a_thousand_rounds_leave_nothing_behind(kind: str) -> None:
    told = footprint(kind, "memory")
    first, middle, last = told["readings"]
    for what in first.keys() - set(MEMORY):
        counts = [reading[what] for reading in told["readings"]]
        assert max(counts) - min(counts) <= SPARE.get(what, 0), (what, counts)
    assert last["traced"] - middle["traced"] < TRACED[kind]
    assert last["resident"] - middle["resident"] < RESIDENT
    assert told["history"] == [950, 999, 50]
