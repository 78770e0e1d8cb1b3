"""What goes wrong where a server is to listen, said by the port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ("listening",)


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
        del cause  # its frames hold a socket that nobody closed
    raise OSError(
        number, f"{host}:{port} must be free to listen at; got: {reason}. Choose another, or 0 for any."
    )
