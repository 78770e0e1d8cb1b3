"""One clerk on each host: an object of the engine's own that works where the nodes are.

Clerks map shared memory, forget it, and do what a run adds to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import uuid4

from byzflow.engine.actor.calls import Call
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.node.sites import Site, forget, reachable
from byzflow.exceptions import NodeLostError

__all__ = ("Clerk", "Staff")


class Clerk:
    """What every clerk can do.

    Examples
    --------
    >>> Clerk().reaches([])
    True
    """

    def reaches(self, sites: Sequence[Site]) -> bool:
        """Whether these arenas can be mapped from here."""
        return reachable(sites)

    def forget(self, sites: Sequence[Site]) -> None:
        """Unmap arenas."""
        forget(sites)


class Staff:
    """The clerks of a run.

    Parameters
    ----------
    factory : callable
        Makes a clerk, on its host.
    """

    def __init__(self, factory: Callable[..., Clerk] = Clerk) -> None:
        self._factory = factory
        self._key = f"clerk-{uuid4().hex}"
        self._hosts: dict[HostRef, None] = {}
        self.deadline: float | None = None

    @property
    def hosts(self) -> list[HostRef]:
        """Hosts that have a clerk and are not lost, in the order in which they got it."""
        self._hosts = {host: None for host in self._hosts if not host.lost}
        return list(self._hosts)

    async def hire(self, host: HostRef, *args: Any) -> None:
        """Put a clerk on a host that has none.

        Raises
        ------
        NodeLostError
            If the host is gone.
        TimeoutError
            If it does not answer in time.
        """
        if host not in self._hosts:
            async with asyncio.timeout(self.deadline):
                await host.spawn(self._key, self._factory, args)
            self._hosts[host] = None

    async def ask(
        self, method: str, work: Sequence[tuple[Any, ...]], hosts: Iterable[HostRef] | None = None
    ) -> list[Any]:
        """Call clerks side by side, one for each piece of work: those of `hosts`, or the first ones.

        Raises
        ------
        NodeLostError
            If a host is gone.
        TimeoutError
            If one does not answer in time.
        """
        pairs = zip(self.hosts if hosts is None else hosts, work, strict=False)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(host, method, args)) for host, args in pairs]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def forget(self, sites: Sequence[Site]) -> None:
        """Let this process and all clerks unmap arenas; one that cannot be reached is left out."""
        forget(sites)
        for host in self.hosts if sites else ():
            try:
                await self._one(host, "forget", (sites,))
            except (NodeLostError, TimeoutError):
                continue

    async def close(self) -> None:
        """Send the clerks away."""
        hosts, self._hosts = self.hosts, {}
        await asyncio.gather(*(host.drop(self._key) for host in hosts))

    async def _one(self, host: HostRef, method: str, args: tuple[Any, ...]) -> Any:
        return (await host.call_many([Call(self._key, method, args)], self.deadline))[0].unwrap()
