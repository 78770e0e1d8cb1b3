"""Copies of a board's sheets on hosts that cannot reach it, and which rows are where.

Such a host has sheets of its own with the same rows. What it lacks it fetches from the hosts that have it,
with one message for each of them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.actor.neighbour import Neighbour
from byzflow.engine.config import seconds
from byzflow.engine.rounds.arena import RowRef
from byzflow.engine.rounds.picks import Picked, Places
from byzflow.engine.rounds.sites import Site
from byzflow.engine.rounds.staff import Pull, Staff
from byzflow.exceptions import DeadlineError, NodeLostError

__all__ = ("Domain", "Mirrors", "VectorLostError", "references")

Domain = HostRef | None
"""Where memory is: on one far host, or (None) where the board is."""

ATTEMPTS = 3  # to fetch a row, each time from hosts that still seem to be there


class VectorLostError(NodeLostError):
    """A vector is gone with all hosts that had it."""


class Mirrors:
    """The far hosts of a board.

    Rows go by their reference on the board. Whatever a call depends on is in two places before it is made: so
    the loss of one host loses no vector that may be asked for again.

    Parameters
    ----------
    staff : Staff
        The clerks of all hosts in other processes.
    """

    def __init__(self, staff: Staff) -> None:
        self._staff = staff
        self._far: dict[HostRef, dict[Site, Site]] = {}
        self._where: dict[RowRef, set[Domain]] = {}
        self._used: set[RowRef] = set()
        self._locks: defaultdict[Domain, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def is_needed(self) -> bool:
        """Whether there is, or was, a host that cannot reach the board."""
        return bool(self._far or self._where)

    def join(self, host: HostRef) -> None:
        """Note that a host cannot reach the board."""
        self._far.setdefault(host, {})

    def wrote(self, row: RowRef, domain: Domain) -> None:
        """Note that a row was written, and where; again in the same round means the same bits."""
        if self.is_needed:
            self._where.setdefault(row, set()).add(domain)

    async def sheets(self, host: HostRef, sites: Iterable[Site]) -> None:
        """Make the sheets that a far host lacks."""
        known = self._far[host]
        for site in set(sites) - known.keys():
            (known[site],) = await self._staff.ask("sheet", [(site.rows, site.signature)], [host])

    def there(self, row: RowRef, domain: Domain) -> RowRef:
        """Return a row as it is called in a domain."""
        return row if domain is None else RowRef(self._far[domain][row.site], row.row)

    def blank(self, site: Site) -> None:
        """Note that a sheet is empty again."""
        self._where = {row: domains for row, domains in self._where.items() if row.site != site}
        self._used = {row for row in self._used if row.site != site}

    def forget(self, sites: Collection[Site]) -> list[Site]:
        """Forget sheets of the board; return those that mirrored them."""
        for site in sites:
            self.blank(site)
        pages = self._far.values()
        return [known.pop(site) for known in pages for site in list(known) if site in sites]

    async def protect(self) -> None:
        """Give every row that calls depend on a second place, where a loss has left it one.

        Raises
        ------
        NodeLostError
            If another host is lost meanwhile.
        """
        for host in [host for host in self._far if not host.lost]:
            await self._save(host, self._used)

    async def bring(self, domain: Domain, rows: Collection[RowRef], *, lasting: bool = False) -> None:
        """Have rows in a domain; `lasting` if they may have to be brought there again.

        Raises
        ------
        VectorLostError
            If one of them is nowhere any more.
        NodeLostError
            If the domain's own host is gone.
        """
        if not self.is_needed or not rows:
            return
        for attempt in range(ATTEMPTS):
            try:
                await self._copy(domain, rows)
                if lasting:
                    self._used.update(rows)
                    await self._save(domain, rows)
            except NodeLostError as error:
                if isinstance(error, VectorLostError) or attempt == ATTEMPTS - 1:
                    raise
                await self._look_around()
                if domain is not None and domain.lost:
                    raise
            else:
                return

    def homes(self, row: RowRef) -> set[Domain]:
        """Return the domains that have a row."""
        return {d for d in self._where.get(row, {None}) if d is None or not d.lost}

    def readers(self, rows: Collection[RowRef]) -> list[HostRef]:
        """Return hosts that should read rows: all near ones, or the far one that has most of them."""
        far = [host for host in self._far if not host.lost]
        count = {host: sum(host in self.homes(row) for row in rows) for host in far}
        best = max(far, key=count.__getitem__, default=None)
        if best is None or (self._near and 2 * count[best] <= len(rows)):
            return self._near
        return [best]

    async def _save(self, domain: Domain, rows: Collection[RowRef]) -> None:
        """Give rows that are on one far host only to a second domain; if that is alone, to this process."""
        alone = [row for row in rows if domain is not None and self.homes(row) == {domain}]
        far = [host for host in self._far if host is not domain and not host.lost]
        if alone:
            await self._copy(None if self._near or not far else far[0], alone)

    async def _copy(self, domain: Domain, rows: Collection[RowRef]) -> None:
        async with self._locks[domain]:
            missing = [row for row in dict.fromkeys(rows) if domain not in self.homes(row)]
            if not missing:
                return
            if domain is not None:
                await self.sheets(domain, {row.site for row in missing})
            sources: defaultdict[Domain, list[RowRef]] = defaultdict(list)
            for row in missing:
                sources[self._source(row)].append(row)
            mine = sources.pop(None, [])
            if mine and domain is not None:
                own = [await asyncio.to_thread(row.flat) for row in mine]
                there = [self.there(row, domain) for row in mine]
                await self._staff.ask("store", [(there, own)], [domain])
            pulls = [self._pull(source, found, domain) for source, found in sources.items() if source]
            await self._fetch(pulls, domain)
            for row in missing:
                self._where.setdefault(row, {None}).add(domain)

    async def _fetch(self, pulls: Sequence[Pull], domain: Domain) -> None:
        agent = domain or next(iter(self._near), None)
        if pulls and agent is not None:
            await self._staff.ask("pull", [(pulls, self._staff.deadline)], [agent])
            return
        for pull in pulls:
            source = next(host for host in self._far if host.address == pull.source.address)
            (values,) = await self._staff.ask("rows", [([there for there, _ in pull.rows],)], [source])
            await asyncio.to_thread(pull.store, values)

    @property
    def _near(self) -> list[HostRef]:
        return [host for host in self._staff.hosts if host not in self._far]

    def _source(self, row: RowRef) -> Domain:
        """Return a host that can send a row, or None if only this process can."""
        homes = self.homes(row)
        far = [host for host in self._far if host in homes]
        if far:
            return far[0]
        if None in homes:
            return next(iter(self._near), None)
        raise VectorLostError("a vector is lost with the workers that held it")

    def _pull(self, source: HostRef, rows: Sequence[RowRef], domain: Domain) -> Pull:
        from_domain = source if source in self._far else None
        pairs = tuple((self.there(row, from_domain), self.there(row, domain)) for row in rows)
        return Pull(Neighbour(source.address, source.key), self._staff.key, pairs)

    async def _look_around(self) -> None:
        """Find out which far hosts are gone."""

        async def look(host: HostRef) -> None:
            try:
                await host.execute("ping", deadline=seconds("comm.connect-timeout"))
            except (NodeLostError, DeadlineError):
                return

        await asyncio.gather(*(look(host) for host in self._staff.hosts))


def references(value: Any) -> list[RowRef]:
    """Return the references in tuples, lists and dictionaries."""
    if isinstance(value, RowRef):
        return [value]
    if type(value) is dict:
        value = tuple(value.values())
    if type(value) in (Picked, Places):
        value = tuple(value)
    return [ref for item in value for ref in references(item)] if type(value) in (tuple, list) else []
