"""A channel bound on every worker of a pool, addressed by the workers' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from byzflow.engine.actor.channels import ChannelRef, Endpoint
from byzflow.exceptions import suggest

__all__ = ("ActorPoolChannel",)

T = TypeVar("T")


class ActorPoolChannel:
    """One channel of one pool.

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

    def _of(self, worker: str, ends: Mapping[str, T]) -> T:
        if worker not in ends:
            known = sorted(ends)
            raise KeyError(
                f"Channel {self.name!r} has the workers {known}; got {worker!r}.{suggest(worker, known)} "
                "Name one of them."
            )
        return ends[worker]
