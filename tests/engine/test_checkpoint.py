"""Checkpoint files: what goes in comes out, and what is not one is refused."""

from __future__ import annotations

import json
import zlib
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


def test_a_tensor_of_one_entry_is_kept_whatever_its_stride(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.safetensors")
    checkpoint.write({"bias": torch.tensor([5.0, 6.0])[::2]})
    assert checkpoint.read()["bias"].tolist() == [5.0]


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


def test_the_interval_may_be_a_number_of_numpy() -> None:
    assert Checkpoint("x", every=np.int64(2)).every == 2


@pytest.mark.parametrize("every", [0, -1, 1.5])
def test_the_interval_is_checked(every: Any) -> None:
    with pytest.raises(ValueError, match="every"):
        Checkpoint("x", every=every)


def test_a_number_is_no_path():
    with pytest.raises(TypeError, match="every=rounds"):
        Checkpoint.of(3)


def test_a_folder_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder"):
        Checkpoint(tmp_path)


def test_any_flipped_bit_of_the_file_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.safetensors")
    tree = {"w": torch.arange(6.0).reshape(2, 3), "many": [torch.full((2,), float(i)) for i in range(12)]}
    checkpoint.write(tree)
    whole = Path(checkpoint.path).read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    for bit in range(0, 8 * length, 11):
        blob = bytearray(whole)
        blob[bit // 8] ^= 1 << bit % 8
        Path(checkpoint.path).write_bytes(blob)
        try:
            got = checkpoint.read()
        except CheckpointError:
            continue
        assert same(tree, got)


def header_changed(path: Path, change: Any) -> None:
    """Change the JSON of a file's header."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])


def test_a_tensor_of_another_form_but_the_same_bytes_is_refused(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.safetensors")
    checkpoint.write({"w": torch.arange(6.0).reshape(2, 3)})
    header_changed(Path(checkpoint.path), lambda header: header["t0"].update(shape=[3, 2]))
    with pytest.raises(CheckpointError, match="checksum"):
        checkpoint.read()


def test_a_file_of_the_version_before_is_read_and_one_of_the_next_is_not(tmp_path: Path) -> None:
    checkpoint, path = Checkpoint(tmp_path / "run.safetensors"), tmp_path / "run.safetensors"
    checkpoint.write({"w": torch.arange(3.0)})
    total = zlib.crc32(torch.arange(3.0).numpy().tobytes(), zlib.crc32(b'{"map": [["w", {"torch": "t0"}]]}'))
    header_changed(path, lambda h: h["__metadata__"].update(version="1", crc32=f"{total:08x}"))
    assert same({"w": torch.arange(3.0)}, checkpoint.read())
    header_changed(path, lambda h: h["__metadata__"].update(version="3"))
    with pytest.raises(CheckpointError, match="it has version 3, this package reads 1 and 2"):
        checkpoint.read()


@pytest.mark.parametrize(
    "body", ['{"torch": "t9"}', "[1", '{"what": 3}', '{"numpy": "t0"}', "5", '{"list": []}']
)
def test_a_tree_that_is_none_is_refused(tmp_path: Path, body: str) -> None:
    path = tmp_path / "run.safetensors"
    header = {
        "format": "byzflow-checkpoint",
        "version": "1",
        "tree": body,
        "crc32": f"{zlib.crc32(body.encode()):08x}",
    }
    save_file({}, path, metadata=header)
    with pytest.raises(CheckpointError, match="must be a byzflow checkpoint"):
        Checkpoint(path).read()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(CheckpointError, match=r"must be written to .*file/run.*File exists"):
        Checkpoint(tmp_path / "file" / "run").write({"round": 1})
