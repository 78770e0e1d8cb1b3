"""Channels: messages between actors, kept in a mailbox per actor and name on the receiver's worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from byzflow.engine.actor.base import ActorBackend
    from byzflow.engine.actor.postbox import Postbox

__all__ = ("ChannelRef", "Endpoint", "open_channel")


@dataclass(frozen=True)
class Endpoint:
    """Where an actor can be reached.

    Parameters
    ----------
    scheme : str
        ``"thread"``, ``"process"``, ``"gpu"``, ``"tcp"``, ``"tls"``, ``"ucx"``, ``"inproc"`` or ``"dask"``.
    address : str
        Address of its worker.
    actor_id : str
        Key of the node host and id of the object, as ``"<host>/<object>"``.

    Examples
    --------
    >>> Endpoint("thread", "inproc://10.0.0.1/1/2", "host/node-0").actor_id
    'host/node-0'
    """

    scheme: str
    address: str
    actor_id: str


@dataclass(frozen=True, eq=False)
class ChannelRef:
    """One actor's end of a channel.

    Parameters
    ----------
    backend : ActorBackend or Postbox
        The actor's backend, or the mailbox that it has there, if that outlives its worker.
    local_ep : Endpoint
        Its own endpoint.
    name : str
        The channel's name; both ends must use the same.
    """

    backend: ActorBackend | Postbox
    local_ep: Endpoint
    name: str

    @property
    def endpoint(self) -> Endpoint:
        """The own endpoint, to be given to whoever shall send here."""
        return self.local_ep

    async def send(self, to: Endpoint, payload: Any) -> None:
        """Append `payload` to the other end's mailbox, waiting while that is full.

        Messages arrive in the order in which `send` was called, also without awaiting in between.

        Raises
        ------
        NodeLostError
            If the receiver is gone.
        """
        await self.backend.chan_put(from_ep=self.local_ep, to_ep=to, name=self.name, payload=payload)

    async def recv(self, *, timeout: float | None = None) -> Any:
        """Return the next message, or None if there is none within `timeout` [seconds].

        A message whose reader was cancelled is kept for the next one.
        """
        return await self.backend.chan_get(ep=self.local_ep, name=self.name, timeout=timeout)


async def open_channel(backend: ActorBackend, name: str) -> ChannelRef:
    """Bind a channel on a constructed actor.

    Examples
    --------
    >>> import asyncio
    >>> from byzflow.engine.actor.backends.thread import ThreadActorBackend
    >>> async def example():
    ...     backend = ThreadActorBackend()
    ...     await backend.start()
    ...     await backend.construct(dict)
    ...     channel = await open_channel(backend, "news")
    ...     await channel.send(channel.endpoint, "hello")
    ...     message = await channel.recv(timeout=1)
    ...     await backend.close()
    ...     return message
    >>> asyncio.run(example())
    'hello'
    """
    return ChannelRef(backend, await backend.chan_open(name), name)
