"""Contexts whose messages lie in mailboxes elsewhere: on workers of a Dask cluster, or behind a server."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from byzflow.engine.actor.channels import Endpoint
from byzflow.engine.actor.factory import resolve_backend
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.node.local_context import NodeContext, require_started, unknown
from byzflow.engine.node.remote_client import WAIT, RemoteNodeClient

__all__ = ("DaskContext", "MailedContext", "ProcessContext", "RemoteContext")

CHANNEL = "messages"


class MailedContext(NodeContext):
    """A context that asks for its messages where they lie, time after time."""

    _running: bool
    _cut_off: ClassVar[tuple[type[Exception], ...]]
    """What a request raises that waits while `shutdown` takes the mailbox away."""

    @abstractmethod
    async def _fetch(self) -> dict[str, Any] | None:
        """Return the next message, or None if there is none for a while."""

    async def receive_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield messages as they come, until `shutdown`."""
        while self._running:
            try:
                message = await self._fetch()
            except self._cut_off:
                if self._was_stopped():
                    return
                raise
            if message is not None:
                yield message

    def _was_stopped(self) -> bool:
        return not self._running


class DaskContext(MailedContext):
    """Messages through mailboxes on the workers of a Dask cluster.

    The mailbox of a node is on a worker; the node itself, and its pipelines, stay with whoever made it.

    Parameters
    ----------
    backend : str, Client, Cluster or ActorBackend, default "process"
        What `resolve_backend` takes.

    Examples
    --------
    >>> DaskContext("thread")
    <DaskContext, not started>
    """

    _registry: ClassVar[dict[str, Endpoint]] = {}
    _cut_off: ClassVar[tuple[type[Exception], ...]] = (LookupError, RuntimeError)

    def __init__(self, backend: Any = "process") -> None:
        self._spec = backend
        self._backend: Any = None
        self._node: Any = None
        self._endpoint: Endpoint | None = None
        self._running = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {self._backend if self._running else 'not started'}>"

    async def start(self, node: Any) -> None:
        """Make the node's mailbox on a worker; again is the same as once."""
        if self._running:
            return
        self._backend = resolve_backend(self._spec)
        await self._backend.start()
        try:
            await self._backend.construct(_Owner, args=(), kwargs={})
            self._endpoint = await self._backend.chan_open(CHANNEL)
        except BaseException:
            await self._backend.close()
            raise
        self._node, self._running = node, True
        self._registry[node.node_id] = self._endpoint

    async def send_message(self, to_node_id: str, message_type: str, payload: Any) -> None:
        """Put a message into the mailbox of another node, waiting while that is full."""
        require_started(self._running)
        target = self._registry.get(to_node_id)
        if target is None:
            raise unknown(to_node_id)
        message = {"from": self._node.node_id, "type": message_type, "payload": payload}
        assert self._endpoint is not None
        await self._backend.chan_put(from_ep=self._endpoint, to_ep=target, name=CHANNEL, payload=message)

    async def _fetch(self) -> dict[str, Any] | None:
        message: dict[str, Any] | None = await self._backend.chan_get(
            ep=self._endpoint, name=CHANNEL, timeout=WAIT
        )
        return message

    async def shutdown(self) -> None:
        """Release the mailbox; what the node has not read is dropped. Again is the same as once."""
        if not self._running:
            return
        self._running = False
        if self._registry.get(self._node.node_id) == self._endpoint:
            del self._registry[self._node.node_id]
        self._node = self._endpoint = None
        await self._backend.close()


class ProcessContext(DaskContext):
    """Messages through worker processes of this machine; the same as ``DaskContext("process")``."""

    _process: _WorkerProcess | None = None  # programs written for the reference ask whether it is alive

    def __init__(self) -> None:
        super().__init__("process")

    @property
    def _node_id(self) -> str | None:
        return self._node.node_id if self._running else None

    async def start(self, node: Any) -> None:
        """Make the node's mailbox in a worker process; again is the same as once."""
        await super().start(node)
        if self._process is None:
            self._process = _WorkerProcess(await self._backend.call("pid"), self._backend.host)

    async def shutdown(self) -> None:
        """Release the mailbox; what the node has not read is dropped. Again is the same as once."""
        self._process = None
        await super().shutdown()


class _Owner:
    """What the mailbox of a node belongs to, on its worker."""

    def pid(self) -> int:
        return os.getpid()


class _WorkerProcess:
    """The process that holds a mailbox, and perhaps others."""

    def __init__(self, pid: int, host: HostRef) -> None:
        self.pid = pid
        self._host = host

    def is_alive(self) -> bool:
        return not self._host.lost


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

    async def _fetch(self) -> dict[str, Any] | None:
        return await self.client.receive_message(timeout=WAIT)

    async def shutdown(self) -> None:
        """Give up the mailbox; what the node has not read is dropped. Again is the same as once."""
        if not self._running:
            return
        self._running = False
        await self.client.disconnect()
