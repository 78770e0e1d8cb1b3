"""Contexts that reach each other without a server between them: every node listens, and dials its peers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from byzflow.engine.actor.ports import check_port
from byzflow.engine.node.ending import end
from byzflow.engine.node.local_context import QueuedContext, require_started
from byzflow.engine.node.remote_client import RemoteNodeClient
from byzflow.engine.node.remote_server import RemoteNodeServer
from byzflow.exceptions import NodeLostError

__all__ = ("MeshRemoteContext",)


class MeshRemoteContext(QueuedContext):
    """Messages straight from node to node, each of which listens at an address that the others know.

    Whoever reaches the port can run code here, as with a Dask worker.

    Parameters
    ----------
    local_host : str
        Interface to listen on.
    local_port : int
        Port to listen on; 0 for a free one, which `local_port` tells after `start`.
    peer_addresses : mapping of str to tuple of str and int
        Host and port of every other node, by its id; may grow until `start`.
    connect_timeout : float, default 5.0
        How long one attempt to reach a peer may take, and for how long after `start` messages wait for
        the first one [seconds].
    reconnect_interval : float, default 2.0
        Pause before a peer that did not answer, or was lost, is tried again [seconds].

    Examples
    --------
    >>> from types import SimpleNamespace as Node
    >>> async def example():
    ...     here = MeshRemoteContext("127.0.0.1", 0, {})
    ...     await here.start(Node(node_id="here"))
    ...     there = MeshRemoteContext("127.0.0.1", 0, {"here": ("127.0.0.1", here.local_port)})
    ...     await there.start(Node(node_id="there"))
    ...     await there.send_message("here", "greeting", "hello")
    ...     async for message in here.receive_messages():
    ...         break
    ...     peers = there.get_connected_peers()
    ...     await there.shutdown()
    ...     await here.shutdown()
    ...     return message, peers
    >>> asyncio.run(example())
    ({'from': 'there', 'type': 'greeting', 'payload': 'hello'}, ['here'])
    """

    def __init__(
        self,
        local_host: str,
        local_port: int,
        peer_addresses: Mapping[str, tuple[str, int]],
        connect_timeout: float = 5.0,
        reconnect_interval: float = 2.0,
    ) -> None:
        super().__init__()
        check_port("local_port", local_port, least=0)
        for peer, (_, port) in peer_addresses.items():
            check_port(f"The port of peer {peer!r}", port)
        self.local_host = local_host
        self.local_port = local_port
        self.peer_addresses = dict(peer_addresses)
        self.connect_timeout = connect_timeout
        self.reconnect_interval = reconnect_interval
        self._server: RemoteNodeServer | None = None
        self._links: dict[str, _Link] = {}
        self._dialling: list[asyncio.Task[None]] = []
        self._settled = 0.0

    @property
    def node_id(self) -> str:
        """Id of the node that lives here."""
        return str(self._node.node_id)

    async def start(self, node: Any) -> None:
        """Listen, and begin to dial the peers; again is the same as once.

        Raises
        ------
        OSError
            If the port is taken.
        """
        if self._running:
            return
        server = RemoteNodeServer(self.local_host, self.local_port)
        await server.start()
        self._take_in(node)
        await server.register_node(self)
        self._server, self.local_port = server, server.port
        self._settled = asyncio.get_running_loop().time() + self.connect_timeout
        self._links = {peer: _Link(*place) for peer, place in self.peer_addresses.items()}
        self._dialling = [
            asyncio.create_task(self._dial(link), name=f"{node.node_id}-dials-{peer}")
            for peer, link in self._links.items()
        ]

    def get_connected_peers(self) -> list[str]:
        """Return the ids of the peers that can be reached now."""
        return [peer for peer, link in self._links.items() if link.up.is_set()]

    async def send_message(self, to_node_id: str, message_type: str, payload: Any) -> None:
        """Send to a peer, waiting while its queue is full; soon after `start`, also for its first answer.

        Raises
        ------
        NodeLostError
            A RuntimeError: if there is no connection to such a peer.
        """
        require_started(self._running)
        link = self._links.get(to_node_id)
        if link is None:
            raise self._no_connection(to_node_id)
        try:
            async with asyncio.timeout_at(self._settled):
                await link.up.wait()
        except TimeoutError:
            raise self._no_connection(to_node_id) from None
        try:
            await link.client.send_message(to_node_id, message_type, payload)
        except OSError as error:
            raise self._no_connection(to_node_id) from error

    async def handle_incoming_message(self, from_node_id: str, message_type: str, payload: Any) -> None:
        """Put what a peer sent into the node's queue."""
        await self._inbox.take_in({"from": from_node_id, "type": message_type, "payload": payload})

    async def shutdown(self) -> None:
        """Hang up and stop listening; what the node has not read is dropped. Again is the same as once."""
        if not self._running:
            return
        dialling, self._dialling, self._links = self._dialling, [], {}
        await end(dialling)
        self._let_go()
        if self._server is not None:
            await self._server.shutdown()
            self._server = None

    async def _dial(self, link: _Link) -> None:
        """Keep a link up: a request that never gets an answer stays open at the peer, and fails with it."""
        while True:
            try:
                await link.client.connect(self.connect_timeout)
                await link.client.register_node(self.node_id)
                link.up.set()
                while True:
                    await link.client.receive_message()
            except (OSError, LookupError):  # the peer is gone, or somebody took the name there and left
                pass
            finally:
                link.up.clear()
                await link.client.hang_up()
            await asyncio.sleep(self.reconnect_interval)

    def _no_connection(self, to_node_id: str) -> NodeLostError:
        return NodeLostError(
            f"No connection to {to_node_id!r}; there is one to {self.get_connected_peers()}. "
            "Start that node, or correct its entry in peer_addresses."
        )


class _Link:
    def __init__(self, host: str, port: int) -> None:
        self.client = RemoteNodeClient(host, port)
        self.up = asyncio.Event()
