"""One clerk on each host: an object of the engine's own that works where the nodes are.

Clerks map shared memory and forget it, keep sheets of rows and fetch rows from each other, and do what a run
adds to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from byzflow.engine.actor.calls import Call
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.actor.neighbour import Neighbour, call_neighbours
from byzflow.engine.config import seconds
from byzflow.engine.rounds.arena import Arena, RowRef
from byzflow.engine.rounds.forms import Signature, norm_of
from byzflow.engine.rounds.panes import forget
from byzflow.engine.rounds.repeat import sent
from byzflow.engine.rounds.sites import Site, reachable
from byzflow.exceptions import DeadlineError, NodeLostError
from byzflow.operators.together import together

__all__ = ("Clerk", "Pull", "Staff")


@dataclass(frozen=True)
class Pull:
    """Rows that a clerk is to fetch from another: as they are called there, and here."""

    source: Neighbour
    key: str
    rows: tuple[tuple[RowRef, RowRef], ...]

    def store(self, values: Sequence[Any]) -> None:
        """Write what came from there into the rows here."""
        for (_, here), value in zip(self.rows, values, strict=True):
            here.write(0, len(value), value)


class Clerk:
    """What every clerk can do.

    Examples
    --------
    >>> Clerk().reaches([])
    True
    """

    def __init__(self) -> None:
        self._sheets: dict[Site, Arena] = {}

    def reaches(self, sites: Sequence[Site]) -> bool:
        """Whether these arenas can be mapped from here."""
        return reachable(sites)

    def forget(self, sites: Sequence[Site]) -> None:
        """Unmap arenas, and let go of sheets of one's own."""
        forget(sites)
        for site in sites:
            self._sheets.pop(site, None)

    def sheet(self, rows: int, signature: Signature) -> Site:
        """Make an arena on this host and return where it is."""
        arena = Arena(rows, signature)
        self._sheets[arena.site] = arena
        norm_of(RowRef(arena.site, 0).flat()[:1])  # loaded here, that takes no node's time
        return arena.site

    def rows(self, refs: Sequence[RowRef]) -> list[Any]:
        """Return rows, shape ``(d,)`` each."""
        return [ref.flat() for ref in refs]

    def store(self, refs: Sequence[RowRef], values: Sequence[Any]) -> None:
        """Write rows."""
        for ref, value in zip(refs, values, strict=True):
            ref.write(0, len(value), value)

    async def pull(self, pulls: Sequence[Pull], deadline: float | None) -> None:
        """Fetch rows from other hosts, with one message for each of them; two may fetch from each other."""
        asks = {pull.source: [Call(pull.key, "rows", ([there for there, _ in pull.rows],))] for pull in pulls}
        answers = await call_neighbours(asks, deadline)
        for pull in pulls:
            pull.store(answers[pull.source][0].unwrap())


class Staff:
    """The clerks of a run.

    Parameters
    ----------
    factory : type
        Kind of the clerks.
    """

    def __init__(self, factory: type[Clerk] = Clerk) -> None:
        self._factory = factory
        self.key = f"clerk-{uuid4().hex}"
        self._hosts: dict[HostRef, None] = {}
        self.deadline: float | None = None

    @property
    def hosts(self) -> list[HostRef]:
        """Hosts that have a clerk and are not lost, in the order in which they got it."""
        self._hosts = {host: None for host in self._hosts if not host.lost}
        return list(self._hosts)

    async def hire(self, host: HostRef) -> None:
        """Put a clerk on a host that has none.

        Raises
        ------
        NodeLostError
            If the host is gone.
        DeadlineError
            If it does not answer in time.
        """
        if host not in self._hosts:
            await host.spawn(self.key, self._factory, deadline=self.deadline)
            self._hosts[host] = None

    async def ask(
        self,
        method: str,
        work: Sequence[tuple[Any, ...]],
        hosts: Iterable[HostRef] | None = None,
        *,
        patient: bool = False,
    ) -> list[Any]:
        """Call clerks side by side, one for each piece of work: those of `hosts`, or the first ones.

        With `patient`, they have as long as a worker has to start, as the first use of a rule compiles it.

        Raises
        ------
        NodeLostError
            If a host is gone.
        DeadlineError
            If one does not answer in time.
        """
        pairs = zip(self.hosts if hosts is None else hosts, work, strict=False)
        limit = self.deadline
        if patient and limit is not None:
            start = seconds("host.start-deadline")
            limit = None if start is None else max(limit, start)
        return await together(self._one(host, method, args, limit) for host, args in pairs)

    async def forget(self, sites: Sequence[Site]) -> None:
        """Let this process and all clerks unmap arenas; one that cannot be reached is left out."""
        forget(sites)
        await asyncio.gather(*(self._forgotten(host, sites) for host in self.hosts if sites))

    async def close(self) -> None:
        """Send the clerks away."""
        hosts, self._hosts = self.hosts, {}
        await asyncio.gather(*(host.drop(self.key) for host in hosts))

    async def _forgotten(self, host: HostRef, sites: Sequence[Site]) -> None:
        with suppress(NodeLostError, DeadlineError):
            await self._one(host, "forget", (sites,), self.deadline)

    async def _one(self, host: HostRef, method: str, args: tuple[Any, ...], limit: float | None) -> Any:
        return (await sent(host, [Call(self.key, method, args)], limit, always=True))[0].unwrap()
