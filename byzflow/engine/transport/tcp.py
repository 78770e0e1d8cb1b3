"""Messages between programs: a mailbox for each node, and who has which."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Mapping
from threading import Thread, current_thread
from typing import Any, Self

from byzflow.engine.actor.calls import Recorder
from byzflow.engine.transport.base import Transport
from byzflow.engine.transport.tcp_simple import TcpMailbox, send_message

__all__ = ("TcpTransport",)

logger = logging.getLogger(__name__)


class TcpTransport(Transport):
    """Messages over TCP, to nodes of this program and of others.

    Parameters
    ----------
    addresses : mapping of str to tuple of str and int, optional
        Host and port of nodes, by name: where those that are registered here listen, and where the others
        are. All programs may have the same table. A node that is not in it takes a free port of 127.0.0.1.

    Attributes
    ----------
    addresses : dict
        The same, with the ports that were taken.

    Examples
    --------
    >>> from threading import Event
    >>> heard, got = Event(), []
    >>> with TcpTransport() as transport:
    ...     transport.register("a", lambda payload: (got.append(payload), heard.set()))
    ...     transport.send("a", "hello")
    ...     heard.wait(10), got
    (True, ['hello'])
    """

    def __init__(self, addresses: Mapping[str, tuple[str, int]] | None = None) -> None:
        self.addresses = dict(addresses or {})
        self._mailboxes: dict[str, TcpMailbox] = {}
        self._threads: list[Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def register(self, node_id: str, handler: Callable[[Any], None]) -> None:
        """Call ``handler(payload)`` for every message to a node, one after another, in a thread of its own.

        What a handler raises is logged; the next message comes all the same.

        Raises
        ------
        ValueError
            If the node is registered already.
        OSError
            If its port is taken.
        """
        if node_id in self._mailboxes:
            raise ValueError(f"Node {node_id!r} is already registered. Choose another name.")
        mailbox = self._mailboxes[node_id] = TcpMailbox(*self.addresses.get(node_id, ()))
        self.addresses[node_id] = (mailbox.host, mailbox.port)
        # A thread that dies with the program: programs of the reference do not close their transport.
        thread = Thread(
            target=_serve, args=(node_id, mailbox, handler), name=f"byzflow-mail-{node_id}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def send(self, to_id: str, payload: Any) -> None:
        """Send to a node; return when the message lies in its mailbox.

        Raises
        ------
        KeyError
            If neither `register` nor `addresses` named it.
        ConnectionError
            If its program does not listen.
        """
        if to_id not in self.addresses:
            raise KeyError(f"Unknown node_id {to_id!r}; there is {sorted(self.addresses)}. Give its address.")
        send_message(self.addresses[to_id], payload)

    def close(self) -> None:
        """Stop listening, and let the handlers under way end; again is the same as once."""
        threads, self._threads = self._threads, []
        for mailbox in self._mailboxes.values():
            mailbox.close()
        for thread in threads:
            if thread is not current_thread():
                thread.join()


def _serve(node_id: str, mailbox: TcpMailbox, handler: Callable[[Any], None]) -> None:
    while True:
        try:
            payload = mailbox.recv()
        except queue.Empty:
            return
        with Recorder() as record:
            handler(payload)
        if record.error is not None:
            logger.error("The handler of %s failed on a message", node_id, exc_info=record.error)
