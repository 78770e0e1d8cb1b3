"""Contexts whose messages lie in mailboxes elsewhere, and the one where that is behind a server."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, ClassVar

from byzflow.engine.actor.calls import Recorder
from byzflow.engine.node.local_context import NodeContext, require_started
from byzflow.engine.node.remote_client import WAIT, RemoteNodeClient, deserialize_message

__all__ = ("MailedContext", "RemoteContext")

logger = logging.getLogger(__name__)


class MailedContext(NodeContext):
    """A context that asks for its messages where they lie, time after time."""

    _running: bool
    _cut_off: ClassVar[tuple[type[Exception], ...]]
    """What a request raises that waits while `shutdown` takes the mailbox away."""

    @abstractmethod
    async def _fetch(self) -> Callable[[], dict[str, Any]] | None:
        """Return what opens the next message, or None if there is none for a while."""

    async def receive_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield messages as they come, until `shutdown`; one that cannot be opened is logged, and dropped."""
        while self._running:
            try:
                opening = await self._fetch()
            except self._cut_off:
                if self._was_stopped():
                    return
                raise
            if opening is None:
                continue
            with Recorder() as record:
                message = opening()
            if record.error is None:
                yield message
            else:
                logger.error("A message cannot be opened here, and is dropped", exc_info=record.error)

    def _was_stopped(self) -> bool:
        return not self._running


class RemoteContext(MailedContext):
    """Messages through the `RemoteNodeServer` at ``host:port``.

    Examples
    --------
    >>> RemoteContext("10.0.0.1", 8888).client.is_connected()
    False
    """

    _cut_off: ClassVar[tuple[type[Exception], ...]] = (OSError,)

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.client = RemoteNodeClient(host, port)
        self._running = False

    async def start(self, node: Any) -> None:
        """Connect and make the node's mailbox; again is the same as once.

        Raises
        ------
        ConnectionError
            If there is no server.
        """
        if self._running:
            return
        await self.client.connect()
        try:
            await self.client.register_node(node.node_id)
        except BaseException:
            await self.client.disconnect()
            raise
        self._running = True

    async def send_message(self, to_node_id: str, message_type: str, payload: Any) -> None:
        """Put a message into the mailbox of another node, waiting while that is full."""
        require_started(self._running)
        await self.client.send_message(to_node_id, message_type, payload)

    async def _fetch(self) -> Callable[[], dict[str, Any]] | None:
        frame = await self.client.receive_frame(WAIT)
        return None if frame is None else partial(deserialize_message, frame)

    async def shutdown(self) -> None:
        """Give up the mailbox; what the node has not read is dropped. Again is the same as once."""
        if not self._running:
            return
        self._running = False
        await self.client.disconnect()
