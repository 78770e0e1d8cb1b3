"""How the two ends of a line find each other: by a name that only Linux machines know, and only each its own.

The caller listens at an abstract name, which no file system holds and which goes with its socket, tells it
to the host by way of Dask, and picks up. Both check that the other process is of the same user. Where a
host cannot come (another machine, container or user, another system), there is no line.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
from contextlib import suppress
from types import TracebackType

__all__ = ("Bell", "dialled")

CREDENTIALS = struct.Struct("3i")  # process, user, group
QUEUE = 8  # connections that may wait to be picked up


class Bell:
    """Where a caller can be reached, for as long as the ``with`` lasts.

    Raises
    ------
    OSError
        If this system has nothing of the kind.

    Examples
    --------
    >>> with Bell() as bell, dialled(bell.name, bell.token) as there, bell.picked_up() as here:
    ...     there.sendall(b"hello")
    ...     here.recv(5)
    b'hello'
    """

    def __init__(self) -> None:
        self.name = f"byzflow-{secrets.token_hex(16)}"
        self.token = secrets.token_bytes(16)
        self._socket = _socket()

    def __enter__(self) -> Bell:
        self._socket.bind(f"\0{self.name}")
        self._socket.listen(QUEUE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def picked_up(self) -> socket.socket:
        """Return the connection of who has dialled with the token; others are cut.

        Raises
        ------
        OSError
            If nobody has.
        """
        while True:
            connection, _ = self._socket.accept()
            connection.setblocking(False)
            with suppress(OSError):
                if _is_ours(connection) and connection.recv(len(self.token)) == self.token:
                    return connection
            connection.close()


def dialled(name: str, token: bytes) -> socket.socket:
    """Return a connection with who listens at a name, which has begun with the token.

    Raises
    ------
    OSError
        If nobody does, on this machine and as the same user.
    """
    connection = _socket()
    try:
        connection.connect(f"\0{name}")
        if not _is_ours(connection):
            raise PermissionError("Who listens at the name must be of the same user; another one is.")
        connection.sendall(token)
    except OSError:
        connection.close()
        raise
    return connection


def _socket() -> socket.socket:
    if not hasattr(socket, "SO_PEERCRED") or not hasattr(socket, "AF_UNIX"):
        raise OSError("Lines need Linux; this is another system.")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    return connection


def _is_ours(connection: socket.socket) -> bool:
    known = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return bool(CREDENTIALS.unpack(known)[1] == os.geteuid())
