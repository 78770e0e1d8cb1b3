"""Contexts whose messages lie in mailboxes on the workers of a Dask cluster, which may go and come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from byzflow.engine.actor.factory import check_backend, resolve_backend
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.actor.postbox import Postbox
from byzflow.engine.node.local_context import reached, require_started, stopped
from byzflow.engine.node.mailed_context import MailedContext
from byzflow.engine.node.remote_client import WAIT
from byzflow.exceptions import DeadlineError, NodeLostError

__all__ = ("DaskContext", "ProcessContext")

CHANNEL = "messages"


class DaskContext(MailedContext):
    """Messages through mailboxes on the workers of a Dask cluster.

    The mailbox of a node is on a worker; the node itself, and its pipelines, stay with whoever made it. A
    mailbox whose worker is lost is made anew on another one, and what lay in it unread is handed out first:
    nothing is lost, nothing doubled.

    Parameters
    ----------
    backend : str, Client, Cluster or ActorBackend, default "process"
        What `resolve_backend` takes.

    Examples
    --------
    >>> DaskContext("thread")
    <DaskContext, not started>
    """

    _registry: ClassVar[dict[str, DaskContext]] = {}
    _cut_off: ClassVar[tuple[type[Exception], ...]] = (LookupError, RuntimeError)

    def __init__(self, backend: Any = "process") -> None:
        self._spec = backend
        self._box = Postbox(CHANNEL, self._settle)
        self._node: Any = None
        self._running = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {self._box.backend if self._running else 'not started'}>"

    async def start(self, node: Any) -> None:
        """Make the node's mailbox on a worker; again is the same as once."""
        if self._running:
            return
        backend = resolve_backend(self._spec)
        check_backend(backend)
        self._box = Postbox(CHANNEL, self._settle)
        await self._box.open(backend)
        self._node, self._running = node, True
        self._registry[node.node_id] = self

    async def send_message(self, to_node_id: str, message_type: str, payload: Any) -> None:
        """Put a message into the mailbox of another node, waiting while that is full.

        Raises
        ------
        NodeLostError
            If the worker of that mailbox is gone, and as many messages as fit into one wait for the next.
        """
        require_started(self._running)
        target = reached(DaskContext, self, to_node_id, self._registry)
        try:
            await target._box.put({"from": self._node.node_id, "type": message_type, "payload": payload})
        except LookupError:
            if target._running:
                raise
            raise stopped(to_node_id) from None

    async def _fetch(self) -> Callable[[], dict[str, Any]] | None:
        try:
            parcel = await self._box.take(WAIT)
        except (NodeLostError, DeadlineError):  # there is no worker for a while
            return None
        return None if parcel is None else parcel.open

    async def _settle(self, backend: Any) -> None:
        """Find out about the new place what has to be known."""

    async def shutdown(self) -> None:
        """Release the mailbox; what the node has not read is dropped. Again is the same as once."""
        if not self._running:
            return
        self._running = False
        if self._registry.get(self._node.node_id) is self:
            del self._registry[self._node.node_id]
        self._node = None
        await self._box.close()


class ProcessContext(DaskContext):
    """Messages through worker processes of this machine; the same as ``DaskContext("process")``."""

    _process: _WorkerProcess | None = None  # programs written for the reference ask whether it is alive

    def __init__(self) -> None:
        super().__init__("process")

    @property
    def _node_id(self) -> str | None:
        return self._node.node_id if self._running else None

    async def _settle(self, backend: Any) -> None:
        self._process = _WorkerProcess(await backend.call("pid"), backend.host)

    async def shutdown(self) -> None:
        """Release the mailbox; what the node has not read is dropped. Again is the same as once."""
        self._process = None
        await super().shutdown()


class _WorkerProcess:
    """The process that holds a mailbox, and perhaps others."""

    def __init__(self, pid: int, host: HostRef) -> None:
        self.pid = pid
        self._host = host

    def is_alive(self) -> bool:
        return not self._host.lost
