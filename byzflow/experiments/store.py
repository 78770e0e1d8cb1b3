"""The results of an experiment on disk: JSON and CSV that need no byzflow to be read."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import byzflow
from byzflow.exceptions import ConfigError
from byzflow.experiments.config import Experiment, describe

__all__ = ("Measurement", "RunResult", "new_folder", "save")


@dataclass(frozen=True)
class Measurement:
    """What a test after one round showed; round 0 is before training."""

    round: int
    accuracy: float
    loss: float


@dataclass(frozen=True)
class RunResult:
    """The numbers of one run.

    Parameters
    ----------
    history : tuple of Measurement
        In order of rounds.
    seconds : float
        Duration [seconds].
    stopped : str, optional
        Why the run ended before its last round.
    excluded : mapping of str to int
        In how many rounds a node was left out, by node; those never left out are not in it.
    """

    history: tuple[Measurement, ...]
    seconds: float
    stopped: str | None = None
    excluded: Mapping[str, int] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Share of the test rows classified correctly after the last round."""
        return self.history[-1].accuracy


def new_folder(parent: Path, name: str, now: datetime | None = None) -> Path:
    """Create and return a folder of its own for one experiment: name, time, and a number if that is taken.

    Raises
    ------
    ConfigError
        If it cannot be made there.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> noon = datetime(2026, 1, 2, 12)
    >>> [new_folder(folder, "digits", noon).name for _ in range(2)]
    ['digits-20260102-120000', 'digits-20260102-120000-2']
    """
    stem = f"{name}-{(now or datetime.now()).strftime('%Y%m%d-%H%M%S')}"
    try:
        (parent / stem).parent.mkdir(parents=True, exist_ok=True)
        for attempt in itertools.count(1):
            folder = parent / (stem if attempt == 1 else f"{stem}-{attempt}")
            with suppress(FileExistsError):
                folder.mkdir()
                break
    except OSError as error:
        raise ConfigError(
            f"Results need a folder that can be written; got {str(parent)!r} ({error.strerror}). "
            "Name another."
        ) from error
    return folder


def save(folder: Path, experiment: Experiment, results: Mapping[str, RunResult]) -> None:
    """Write ``config.json``, ``metrics.csv`` (one line per measurement) and ``summary.json`` to `folder`."""
    _write_json(folder / "config.json", describe(experiment))
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["cell", "round", "accuracy", "loss"])
        for cell, result in results.items():
            writer.writerows([cell, m.round, m.accuracy, m.loss] for m in result.history)
    summary = {
        cell: {
            "accuracy": r.accuracy,
            "rounds": r.history[-1].round,
            "seconds": round(r.seconds, 3),
            "stopped": r.stopped,
            "excluded": dict(r.excluded),
        }
        for cell, r in results.items()
    }
    written = datetime.now(UTC).isoformat(timespec="seconds")
    _write_json(
        folder / "summary.json", {"byzflow": byzflow.__version__, "written": written, "cells": summary}
    )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
