"""A post office for nodes in several processes: mailboxes by node id, reached over `distributed.comm`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from distributed.comm.core import CommClosedError
from distributed.core import Server, Status

from byzflow.engine.actor.calls import Recorder
from byzflow.engine.actor.ports import check_port, listening
from byzflow.engine.config import seconds, setting
from byzflow.engine.node.ending import ends_us
from byzflow.engine.node.held import HeldMailbox
from byzflow.engine.node.local_context import NodeContext
from byzflow.engine.node.remote_client import deserialize_message, serialize_message

__all__ = ("PostOffice", "RemoteNodeServer", "ServerNodeContext")

logger = logging.getLogger(__name__)


class PostOffice(Server):
    """The Dask server behind a `RemoteNodeServer`: clients tell it from a scheduler by its name."""


class RemoteNodeServer:
    """Mailboxes for the nodes that register, here or through a `RemoteNodeClient`.

    A node whose process ends has left when it has not come back within ``byzflow.channel.return-deadline``:
    its mailbox is closed, and who waits for room in it is told so. Whoever reaches the port can run code
    here, as with a Dask scheduler.

    Parameters
    ----------
    host : str, default "localhost"
        Interface to listen on.
    port : int, default 8888
        Port; 0 for a free one, which `port` tells after `start`.

    Examples
    --------
    >>> import asyncio
    >>> async def example():
    ...     async with RemoteNodeServer(port=0) as server:
    ...         return server.port > 0
    >>> asyncio.run(example())
    True
    """

    def __init__(self, host: str = "localhost", port: int = 8888) -> None:
        check_port("port", port, least=0)
        self.host = host
        self.port = port
        self._nodes: dict[str, Any] = {}
        self._inboxes: dict[str, HeldMailbox] = {}
        self._server: Any = None

    async def __aenter__(self) -> RemoteNodeServer:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.shutdown()

    async def start(self) -> None:
        """Listen; again is the same as once.

        Raises
        ------
        OSError
            If the port is taken.
        """
        if self._server is not None:
            return
        office: Any = PostOffice  # typed, but its constructor is not
        self._server = office(
            {
                "hold": self._hold,
                "leave": self._leave,
                "receive": self._receive,
                "register": self._register,
                "send": self._send,
            },
            needs_workdir=False,  # a folder that is locked and on sys.path, of which closing gives up neither
        )
        try:
            with listening(self.host, self.port):
                await self._server.listen(f"tcp://{self.host}:{self.port}")
        except BaseException:
            await self.shutdown()
            raise
        self.port = self._server.port

    async def serve(self) -> None:
        """Start, and run until cancelled or `shutdown`."""
        async with self:
            await self._server.finished()

    async def register_node(self, node: Any) -> None:
        """Hand what is sent to ``node.node_id`` to ``node.handle_incoming_message``, in this process.

        What that raises is logged here; the sender does not hear of it, as with other contexts.

        A node with a context gets a `ServerNodeContext` around it, so that it can answer those who registered
        from elsewhere.
        """
        self._nodes[node.node_id] = node
        context = getattr(node, "context", None)
        if isinstance(context, NodeContext) and not isinstance(context, ServerNodeContext):
            node.context = ServerNodeContext(self, context)
            node.context.node_id = node.node_id

    async def send_to_client(
        self, from_node_id: str, to_node_id: str, message_type: str, payload: Any
    ) -> bool:
        """Put a message into the mailbox of a node that registered from elsewhere; False if there is none."""
        if to_node_id not in self._inboxes:
            return False
        message = {"from": from_node_id, "type": message_type, "payload": payload}
        return await self._keep(to_node_id, serialize_message(message))

    async def shutdown(self) -> None:
        """Stop, and forget the nodes and what they have not read; again is the same as once."""
        server, self._server = self._server, None
        self._nodes.clear()
        for node in tuple(self._inboxes):
            await self._leave(node)
        if server is not None:
            await server.close()

    async def _register(self, comm: Any, node: str) -> Status:
        former = self._inboxes.get(node)
        self._inboxes[node] = HeldMailbox(int(setting("channel.capacity")))
        if former is not None:
            await former.close()
        return await self._hold(comm, node)

    async def _hold(self, comm: Any, node: str) -> Status:
        """Say whether there is a mailbox, and have it held by this connection, which has no other use."""
        inbox = self._inboxes.get(node)
        if inbox is None:
            await comm.write(False)
            return Status.dont_reply
        inbox.hold()
        with suppress(CommClosedError):
            await comm.write(True)
            await comm.read()
        limit = seconds("channel.return-deadline")
        if await inbox.let_go(limit) and self._inboxes.get(node) is inbox:
            logger.warning("Node %s is gone: its connection was lost, and no other came in %s s", node, limit)
            await self._leave(node)
        return Status.dont_reply

    async def _leave(self, node: str) -> None:
        if node in self._inboxes:
            await self._inboxes.pop(node).close()

    async def _send(self, to: str, frame: bytes) -> bool:
        if to in self._nodes:
            with Recorder() as record:
                message = deserialize_message(frame)
                await self._nodes[to].handle_incoming_message(
                    message["from"], message["type"], message["payload"]
                )
            if record.error is not None:
                if ends_us(record.error):
                    raise record.error
                logger.error("Node %s failed on a message", to, exc_info=record.error)
            return True
        return await self._keep(to, frame)

    async def _keep(self, to: str, frame: bytes) -> bool:
        """Put a message into a mailbox; False if that is not there, or not until there is room."""
        if to not in self._inboxes:
            return False
        try:
            await self._inboxes[to].put(frame)
        except LookupError:
            return False
        return True

    async def _receive(self, node: str, received: int, timeout: float) -> tuple[int, bytes] | bool | None:
        inbox = self._inboxes.get(node)
        if inbox is None or not inbox.is_held:
            return False
        try:
            return await inbox.get(received, timeout)
        except LookupError:  # the node left, or registered again, meanwhile
            return None


class ServerNodeContext(NodeContext):
    """The context of a node in the server's process: its own, and the mailboxes of those elsewhere.

    Parameters
    ----------
    server : RemoteNodeServer
        Holds the mailboxes.
    in_process_context : NodeContext
        The node's own context.
    """

    def __init__(self, server: RemoteNodeServer, in_process_context: NodeContext) -> None:
        self.server = server
        self.in_process_context = in_process_context
        self.node_id = ""

    async def start(self, node: Any) -> None:
        """Start the node's own context."""
        self.node_id = node.node_id
        await self.in_process_context.start(node)

    async def send_message(self, to_node_id: str, message_type: str, payload: Any) -> None:
        """Send to a node elsewhere that has registered, or else by the node's own context."""
        if not await self.server.send_to_client(self.node_id, to_node_id, message_type, payload):
            await self.in_process_context.send_message(to_node_id, message_type, payload)

    async def receive_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what comes by the node's own context."""
        async for message in self.in_process_context.receive_messages():
            yield message

    async def shutdown(self) -> None:
        """Stop the node's own context."""
        await self.in_process_context.shutdown()
