"""A mailbox with an address, for programs without an event loop: a `RemoteNodeServer` with one reader."""

from __future__ import annotations

import asyncio
import queue
from concurrent.futures import CancelledError, Future
from threading import Lock
from typing import Any, Self

from distributed.utils import LoopRunner

from byzflow.engine.actor.mailbox import Mailbox
from byzflow.engine.config import setting
from byzflow.engine.node.remote_client import RemoteNodeClient
from byzflow.engine.node.remote_server import RemoteNodeServer
from byzflow.engine.node.sync import run_sync

__all__ = ("TcpMailbox", "send_message")

NAME = "mailbox"


class TcpMailbox:
    """Messages that anybody may send to ``host:port``, first in, first out.

    Whoever reaches the port can run code here, as with a Dask worker.

    Parameters
    ----------
    host : str, default "127.0.0.1"
        Interface to listen on.
    port : int, default 0
        Port; 0 for a free one, which `port` then tells.

    Raises
    ------
    OSError
        If the port is taken.

    Examples
    --------
    >>> with TcpMailbox() as mailbox:
    ...     send_message((mailbox.host, mailbox.port), {"x": 1})
    ...     mailbox.recv(timeout=10)
    {'x': 1}
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._post = _Post(host, port)
        self._runner = LoopRunner()
        self._runner.start()
        self._lock = Lock()
        self._reading = Lock()
        self._waiting: Future[tuple[int, Any] | None] | None = None
        self._received = 0
        self._is_open = True
        try:
            self._runner.run_sync(self._post.open)
        except BaseException:
            self._runner.stop()
            raise
        self.host = host
        self.port = self._post.server.port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def recv(self, timeout: float | None = None) -> Any:
        """Return the next message.

        Raises
        ------
        queue.Empty
            If there is none within `timeout` [seconds], or the mailbox is closed.
        """
        if not self._reading.acquire(timeout=-1 if timeout is None else timeout):
            raise queue.Empty(f"Another thread reads from this mailbox, for {timeout} s already.")
        try:
            answer = self._next(timeout)
            if answer is None:
                raise queue.Empty(
                    f"A message was to come within {timeout} s; none did. Wait longer, or send."
                )
            self._received, payload = answer
            return payload
        finally:
            self._reading.release()

    def close(self) -> None:
        """Stop listening, drop what was not read, and let readers go; again is the same as once."""
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            if self._waiting is not None:
                self._waiting.cancel()
        self._runner.run_sync(self._post.server.shutdown)
        self._runner.stop()

    def _next(self, timeout: float | None) -> tuple[int, Any] | None:
        with self._lock:
            if not self._is_open:
                raise queue.Empty("A mailbox must be open to be read; this one is closed. Make a new one.")
            loop: asyncio.AbstractEventLoop = self._runner.loop.asyncio_loop
            getting = self._post.mail.get(self._received, timeout)
            self._waiting = asyncio.run_coroutine_threadsafe(getting, loop)
        try:
            return self._waiting.result()
        except CancelledError:
            return None


class _Post:
    """The node that a server hands messages to; they lie here until they are read."""

    node_id = NAME

    def __init__(self, host: str, port: int) -> None:
        self.server = RemoteNodeServer(host, port)
        self.mail = Mailbox(int(setting("channel.capacity")))

    async def open(self) -> None:
        await self.server.register_node(self)
        await self.server.start()

    async def handle_incoming_message(self, from_node_id: str, message_type: str, payload: Any) -> None:
        await self.mail.put(payload)


def send_message(addr: tuple[str, int], payload: Any) -> None:
    """Send to the `TcpMailbox` at ``(host, port)``; return when it lies there, waiting while that is full.

    Raises
    ------
    ConnectionError
        If there is none.

    Examples
    --------
    >>> with TcpMailbox() as mailbox:
    ...     send_message((mailbox.host, mailbox.port), "hello")
    ...     mailbox.recv(timeout=10)
    'hello'
    """
    run_sync(_send(addr, payload))


async def _send(addr: tuple[str, int], payload: Any) -> None:
    client = RemoteNodeClient(*addr)
    await client.connect()
    try:
        await client.send_message(NAME, "message", payload)
    finally:
        await client.hang_up()
