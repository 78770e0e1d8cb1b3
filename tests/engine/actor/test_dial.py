"""How callers and hosts find each other: nobody else gets through, and nothing stays behind."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from byzflow.engine.actor.dial import QUEUE, Bell, dialled


def stranger(name: str, said: bytes = b"") -> socket.socket:
    """Somebody of this machine and user who has found the name."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(f"\0{name}")
    connection.sendall(said)
    return connection


def test_both_ends_speak_to_each_other_when_the_bell_is_gone() -> None:
    with Bell() as bell:
        there = dialled(bell.name, bell.token)
        here = bell.picked_up()
    with here, there:
        here.sendall(b"one")
        there.sendall(b"two")
        assert (there.recv(9), here.recv(9)) == (b"one", b"two")
        assert not os.get_inheritable(here.fileno())
        assert not os.get_inheritable(there.fileno())
        assert not here.getblocking()
        assert not there.getblocking()


def test_whoever_has_no_token_is_cut_and_the_host_behind_is_picked_up() -> None:
    with Bell() as bell, stranger(bell.name) as silent, stranger(bell.name, bytes(16)) as wrong:
        with dialled(bell.name, bell.token) as there, bell.picked_up() as here:
            there.sendall(b"host")
            assert here.recv(9) == b"host"
        assert silent.recv(9) == b""
        assert wrong.recv(9) == b""


def test_who_waits_for_nobody_is_told_at_once() -> None:
    with Bell() as bell, pytest.raises(OSError, match="unavailable"):
        bell.picked_up()


def test_a_bell_that_strangers_keep_busy_is_an_error_and_not_a_wait() -> None:
    with Bell() as bell:
        busy = [dialled(bell.name, b"") for _ in range(QUEUE + 1)]
        with pytest.raises(OSError, match="unavailable"):
            dialled(bell.name, bell.token)
        for connection in busy:
            connection.close()


def test_another_user_is_refused_by_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with Bell() as bell, dialled(bell.name, bell.token) as there:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(OSError, match="unavailable"):
            bell.picked_up()
        with pytest.raises(PermissionError, match="same user"):
            dialled(bell.name, bell.token)
        with pytest.raises(ConnectionResetError):  # nobody has read its token
            there.recv(1)


def test_a_name_goes_with_its_bell() -> None:
    with Bell() as bell:
        assert f"@{bell.name}" in Path("/proc/net/unix").read_text(encoding="utf-8")
    assert bell.name not in Path("/proc/net/unix").read_text(encoding="utf-8")
    with pytest.raises(ConnectionRefusedError):
        dialled(bell.name, bell.token)


def test_systems_without_credentials_have_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    with pytest.raises(OSError, match="need Linux"):
        Bell()
    with pytest.raises(OSError, match="need Linux"):
        dialled("name", b"token")
