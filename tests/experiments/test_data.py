"""Data sets come out as images in [0, 1] with labels, split as the seed says."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from byzflow.exceptions import ConfigError
from byzflow.experiments.data import Digits, Mnist, read_idx


def _write_idx(path: Path, array: np.ndarray, *, compress: bool) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if compress else content)


def _mnist(folder: Path, prefix: str, rows: int, *, compress: bool = True) -> None:
    rng = np.random.default_rng(rows)
    ending = ".gz" if compress else ""
    images, labels = rng.integers(0, 256, (rows, 28, 28)), rng.integers(0, 10, rows)
    _write_idx(folder / f"{prefix}-images-idx3-ubyte{ending}", images, compress=compress)
    _write_idx(folder / f"{prefix}-labels-idx1-ubyte{ending}", labels, compress=compress)


def test_digits_are_scaled_to_the_unit_interval() -> None:
    split = Digits().load(np.random.default_rng(0))
    assert split.x_train.dtype == np.float32
    assert split.x_train.min() == 0
    assert split.x_train.max() == 1
    assert split.shape == (1, 8, 8)


def test_digits_hold_out_other_rows_for_another_seed() -> None:
    first, again, other = (Digits().load(np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (first.y_test == again.y_test).all()
    assert not (first.y_test == other.y_test).all()


def test_mnist_holds_rows_out_when_only_the_test_files_are_there(tmp_path: Path) -> None:
    _mnist(tmp_path, "t10k", 50)
    split = Mnist(path=tmp_path, test_fraction=0.2).load(np.random.default_rng(0))
    assert split.x_train.shape == (40, 1, 28, 28)
    assert split.y_test.shape == (10,)


def test_mnist_takes_its_own_split_when_all_files_are_there(tmp_path: Path) -> None:
    _mnist(tmp_path, "t10k", 20, compress=False)
    _mnist(tmp_path, "train", 30, compress=False)
    split = Mnist(path=tmp_path).load(np.random.default_rng(0))
    assert (split.x_train.shape[0], split.x_test.shape[0]) == (30, 20)
    assert 0 <= split.x_test.min() <= split.x_test.max() <= 1


def test_a_folder_may_be_a_string_and_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _mnist(tmp_path, "t10k", 20)
    _mnist(tmp_path, "train", 30)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    split = Mnist(f"~/{tmp_path.name}").load(np.random.default_rng(0))
    assert (split.x_train.shape[0], split.x_test.shape[0]) == (30, 20)


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="t10k-images"):
        Mnist(path=tmp_path).load(np.random.default_rng(0))


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 9, 1, 2]))
    with pytest.raises(ConfigError, match=r"\(9,\); got 2 bytes"):
        read_idx(path)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(b"hello, world")
    with pytest.raises(ConfigError, match="IDX"):
        read_idx(path)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_the_held_out_share_lies_between_0_and_1(fraction: float) -> None:
    with pytest.raises(ConfigError, match="test_fraction"):
        Digits(test_fraction=fraction)
