"""Files are whole, and nothing stays beside them, whatever ends their writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from byzflow.engine import whole
from byzflow.engine.whole import write_whole

KILLED = """
import os, signal, sys
from byzflow.engine.whole import write_whole
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
write_whole(sys.argv[1], b"half")
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.processes
def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "run[1].safetensors"
    write_whole(path, b"old")
    assert (
        subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -signal.SIGKILL
    )
    assert path.read_bytes() == b"old"
    assert len(names(tmp_path)) == 2
    write_whole(path, b"new")
    assert names(tmp_path) == [path.name]
    assert path.read_bytes() == b"new"


def test_a_writer_that_is_alive_keeps_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"

    def between(handle: int) -> None:
        monkeypatch.undo()
        write_whole(path, b"other")
        assert len(names(tmp_path)) == 2
        assert path.read_bytes() == b"other"

    monkeypatch.setattr(os, "fsync", between)
    write_whole(path, b"mine")
    assert names(tmp_path) == ["run"]
    assert path.read_bytes() == b"mine"


def test_a_writer_whose_file_is_removed_before_it_is_locked_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = whole.fcntl.flock

    def late(handle: int, operation: int) -> None:
        monkeypatch.undo()
        whole._sweep(tmp_path / "run")
        assert names(tmp_path) == []
        lock(handle, operation)

    monkeypatch.setattr(whole.fcntl, "flock", late)
    write_whole(tmp_path / "run", b"mine")
    assert names(tmp_path) == ["run"]


def test_files_of_other_names_stay(tmp_path: Path) -> None:
    others = [
        ".other.abcdefgh.tmp",
        ".run.abcdefg.tmp",
        ".run.notes",
        ".run.x.abcdefgh.tmp",
        "run.abcdefgh.tmp",
    ]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".run.abcdefgh.tmp").touch()
    write_whole(tmp_path / "run", b"mine")
    assert names(tmp_path) == sorted([*others, "run"])


def test_without_locks_files_are_written_and_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "LOCKS", False)
    (tmp_path / ".run.abcdefgh.tmp").touch()
    write_whole(tmp_path / "run", b"mine")
    assert names(tmp_path) == [".run.abcdefgh.tmp", "run"]


def test_a_symbolic_link_stays_and_what_it_names_is_written(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "disk" / "file"
    link.symlink_to(target)
    for blob in (b"first", b"second"):
        write_whole(link, blob)
        assert link.is_symlink()
        assert target.read_bytes() == blob
    assert names(target.parent) == ["file"]


def test_what_is_no_file_stays_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(FileExistsError, match="something else than a file"):
            write_whole(path, b"blob")
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["pipe"]
