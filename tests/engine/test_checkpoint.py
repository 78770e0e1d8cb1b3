"""Checkpoint files: what goes in comes out, and what is not one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from byzflow.engine.checkpoint import Checkpoint
from byzflow.exceptions import CheckpointError

TREE = {
    "round": 7,
    "name": "run",
    "nothing": None,
    "flag": True,
    "rate": 0.1,
    "state": {"w": torch.randn(3, 2, dtype=torch.float64), "half": torch.ones(2, dtype=torch.bfloat16)},
    "empty": torch.zeros(0),
    "scalar": torch.tensor(3),
    "list": [1, (2.5, "x"), {3: np.arange(4, dtype=np.int16)}],
    "none": np.zeros((0, 3), dtype=np.float32),
    "blob": b"\x00\xff",
    "blank": b"",
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b) and a.shape == b.shape
    return type(a) is type(b) and a == b


def test_a_tree_comes_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "deep" / "run.safetensors")
    checkpoint.write(TREE)
    assert same(TREE, checkpoint.read())


def test_writing_leaves_nothing_beside_the_file_and_replaces_it(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.safetensors")
    for round in range(3):
        checkpoint.write({"round": round})
    assert checkpoint.read() == {"round": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_failed_writing_keeps_the_old_file(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.safetensors")
    checkpoint.write({"round": 1})
    with pytest.raises(CheckpointError, match="tree/model is a object"):
        checkpoint.write({"model": object()})
    assert checkpoint.read() == {"round": 1}


def test_every_torn_length_is_refused(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.safetensors")
    checkpoint.write(TREE)
    whole = Path(checkpoint.path).read_bytes()
    for length in {0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1}:
        Path(checkpoint.path).write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="must be a byzflow checkpoint"):
            checkpoint.read()


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.safetensors")
    checkpoint.write(TREE)
    blob = bytearray(Path(checkpoint.path).read_bytes())
    blob[-3] ^= 1
    Path(checkpoint.path).write_bytes(blob)
    with pytest.raises(CheckpointError, match="checksum"):
        checkpoint.read()


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(2)}, foreign)
    with pytest.raises(CheckpointError, match="no byzflow header"):
        Checkpoint(foreign).read()
    (tmp_path / "text").write_text("hello, this is no checkpoint at all")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpoint(tmp_path / "text").read()
    with pytest.raises(CheckpointError, match="no such file"):
        Checkpoint(tmp_path / "absent").read()


@pytest.mark.parametrize("every", [0, -1, 1.5])
def test_the_interval_is_checked(every: Any) -> None:
    with pytest.raises(ValueError, match="every"):
        Checkpoint("x", every=every)


def test_a_number_is_no_path():
    with pytest.raises(TypeError, match="every=rounds"):
        Checkpoint.of(3)
