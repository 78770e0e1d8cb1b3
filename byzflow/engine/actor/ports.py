"""Ports: which there are, and what goes wrong where a server is to listen at one."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from tornado.netutil import bind_sockets

from byzflow.operators.checks import index

__all__ = ("check_port", "listening")

LAST = (1 << 16) - 1


def check_port(name: str, port: object, *, least: int = 1) -> None:
    """Refuse what is no port: nobody will ever answer there.

    Parameters
    ----------
    name : str
        What the caller calls it.
    port : object
        The port.
    least : int, default 1
        The first one; 0 where a server may choose one for itself.

    Examples
    --------
    >>> check_port("port", 99999)
    Traceback (most recent call last):
        ...
    ValueError: port must be from 1 to 65535; got 99999. Take the one that the other side listens at.
    """
    if not least <= index(name, port) <= LAST:
        hint = "0 takes any that is free" if least == 0 else "Take the one that the other side listens at"
        raise ValueError(f"{name} must be from {least} to {LAST}; got {port}. {hint}.")


@contextmanager
def listening(host: str, port: int) -> Iterator[None]:
    """Name the port in the error of a server that cannot listen there.

    Examples
    --------
    >>> with listening("127.0.0.1", 8888):
    ...     raise OSError(98, "Address already in use")
    Traceback (most recent call last):
        ...
    OSError: [Errno 98] 127.0.0.1:8888 must be free to listen at; got: Address already in use. Choose ...
    """
    try:
        yield
        return
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__ or error.__context__
        if not isinstance(cause, OSError):
            raise
        number, reason = cause.errno, cause.strerror
        _close_unbound(cause)
        del cause
    raise OSError(
        number, f"{host}:{port} must be free to listen at; got: {reason}. Choose another, or 0 for any."
    )


def _close_unbound(error: OSError) -> None:
    """Close what tornado leaves open, in the frames of its error, where it cannot bind."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is bind_sockets.__code__:
            for value in tuple(frame.f_locals.values()):
                if isinstance(value, socket.socket):
                    value.close()
