"""A channel bound on every worker of a pool, addressed by the workers' names."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.base import ActorBackend
from byzflow.engine.actor.channels import ChannelRef, Endpoint, open_channel
from byzflow.engine.actor.postbox import Postbox
from byzflow.exceptions import suggest

__all__ = ("ActorPoolChannel", "bound")

T = TypeVar("T")


class ActorPoolChannel:
    """One channel of one pool.

    A mailbox whose Dask worker is lost is made anew on another one, and what lay in it unread is handed out
    first: nothing that this process sent is lost, nothing doubled. While there is no worker, as many messages
    are kept as one mailbox holds; then `send` raises a `NodeLostError`, and so does `recv` without a message
    when none has come within ``byzflow.comm.connect-timeout``.

    Parameters
    ----------
    name : str
        The channel's name.
    channels, endpoints : mapping of str
        By worker name.
    """

    def __init__(
        self, *, name: str, channels: Mapping[str, ChannelRef], endpoints: Mapping[str, Endpoint]
    ) -> None:
        self.name = name
        self._channels = dict(channels)
        self._endpoints = dict(endpoints)

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of the workers, in the order of the pool."""
        return tuple(self._channels)

    def channel(self, worker: str) -> ChannelRef:
        """Return a worker's end; `KeyError` if there is no such worker."""
        return self._of(worker, self._channels)

    def endpoint(self, worker: str) -> Endpoint:
        """Return a worker's address; `KeyError` if there is no such worker."""
        return self._of(worker, self._endpoints)

    async def send(self, sender: str, recipient: str, payload: Any) -> None:
        """Send from one worker to another."""
        await self.channel(sender).send(self.endpoint(recipient), payload)

    async def recv(self, worker: str, *, timeout: float | None = None) -> Any:
        """Return a worker's next message, or None after `timeout` [seconds]."""
        return await self.channel(worker).recv(timeout=timeout)

    async def close(self) -> None:
        """Take the mailboxes away with all that is unread; the pool does so when it is shut down."""
        boxes = (channel.backend for channel in self._channels.values())
        await asyncio.gather(*(box.close() for box in boxes if isinstance(box, Postbox)))

    def _of(self, worker: str, ends: Mapping[str, T]) -> T:
        if worker not in ends:
            known = sorted(ends)
            raise KeyError(
                f"Channel {self.name!r} has the workers {known}; got {worker!r}.{suggest(worker, known)} "
                "Name one of them."
            )
        return ends[worker]


async def bound(name: str, backends: Mapping[str, ActorBackend]) -> ActorPoolChannel:
    """Bind a channel on backends with an object, by worker name, each where that object is."""
    channels: dict[str, ChannelRef] = {}
    try:
        for worker, backend in backends.items():
            channels[worker] = await _bound(name, backend)
    except BaseException:
        await ActorPoolChannel(name=name, channels=channels, endpoints={}).close()
        raise
    endpoints = {worker: channel.endpoint for worker, channel in channels.items()}
    return ActorPoolChannel(name=name, channels=channels, endpoints=endpoints)


async def _bound(name: str, backend: ActorBackend) -> ChannelRef:
    if not isinstance(backend, DaskActorBackend):
        return await open_channel(backend, name)
    box, host = Postbox(name), backend.host
    await box.open(backend.plain(), None if host is None or host.lost else host)
    return ChannelRef(box, box.endpoint, name)
