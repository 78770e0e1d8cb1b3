"""Contexts whose messages lie in mailboxes on the workers of a Dask cluster, which may go and come."""

from __future__ import annotations

import os
from collections import deque
from typing import Any, ClassVar

from byzflow.engine.actor.channels import Endpoint
from byzflow.engine.actor.factory import resolve_backend
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.actor.parcel import Parcel
from byzflow.engine.node.local_context import require_started, unknown
from byzflow.engine.node.mailed_context import MailedContext
from byzflow.engine.node.remote_client import WAIT
from byzflow.engine.node.unread import Unread
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
        self._backend: Any = None
        self._node: Any = None
        self._endpoint: Endpoint | None = None
        self._unread = Unread()
        self._rescued: deque[Parcel] = deque()
        self._running = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {self._backend if self._running else 'not started'}>"

    async def start(self, node: Any) -> None:
        """Make the node's mailbox on a worker; again is the same as once."""
        if self._running:
            return
        self._unread, self._rescued = Unread(), deque()
        await self._open(resolve_backend(self._spec))
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
        target = self._registry.get(to_node_id)
        if target is None:
            raise unknown(to_node_id)
        message = {"from": self._node.node_id, "type": message_type, "payload": payload}
        await target._take(self._backend, self._endpoint, Parcel(message))

    async def _take(self, sender: Any, sender_at: Endpoint | None, parcel: Parcel) -> None:
        """Have a message put into the mailbox of this node."""
        is_here = self._endpoint is not None and self._endpoint.address.startswith("inproc://")
        kept = parcel if is_here else parcel.copied()
        number = self._unread.add(kept)
        endpoint = self._endpoint  # after `add`: see `_move`
        try:
            await sender.chan_put(from_ep=sender_at, to_ep=endpoint, name=CHANNEL, payload=(number, kept))
        except NodeLostError:
            if not self._will_rescue(endpoint) and self._unread.take(number) is not None:
                raise
        except BaseException:
            self._unread.take(number)
            raise

    def _will_rescue(self, endpoint: Endpoint | None) -> bool:
        """Whether what did not reach this endpoint is handed out all the same, once the mailbox has moved."""
        if not self._running or self._unread.is_full:
            return False
        return self._endpoint is not endpoint or self._backend.host.lost

    async def _fetch(self) -> dict[str, Any] | None:
        if self._rescued:
            return self._opened(self._rescued.popleft())
        try:
            found = await self._backend.chan_get(ep=self._endpoint, name=CHANNEL, timeout=WAIT)
        except NodeLostError:
            if self._running:
                await self._move()
            return None
        if found is None:
            return None
        number, parcel = found
        return None if self._unread.take(number) is None else self._opened(parcel)

    @staticmethod
    def _opened(parcel: Parcel) -> dict[str, Any]:
        message: dict[str, Any] = parcel.open()
        return message

    async def _open(self, backend: Any) -> None:
        """Make the mailbox on a worker of a backend, and use that from now on."""
        try:
            await backend.start()
            await backend.construct(_Owner, args=(), kwargs={})
            endpoint = await backend.chan_open(CHANNEL)
            await self._settle(backend)
        except BaseException:
            await backend.close()
            raise
        self._backend, self._endpoint = backend, endpoint

    async def _settle(self, backend: Any) -> None:
        """Find out about the new place what has to be known."""

    async def _move(self) -> None:
        """Make the mailbox anew; a sender that came before `rescue` is rescued, one after it sends there."""
        lost = self._backend
        while True:
            try:
                await self._open(lost.clone())
            except (NodeLostError, DeadlineError):  # that worker is lost too, or there is none for a while
                continue
            break
        self._rescued.extend(self._unread.rescue())
        await lost.close()

    async def shutdown(self) -> None:
        """Release the mailbox; what the node has not read is dropped. Again is the same as once."""
        if not self._running:
            return
        self._running = False
        if self._registry.get(self._node.node_id) is self:
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

    async def _settle(self, backend: Any) -> None:
        self._process = _WorkerProcess(await backend.call("pid"), backend.host)

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
