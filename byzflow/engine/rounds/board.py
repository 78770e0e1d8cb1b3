"""Rows in which the nodes of a run leave vectors for one another, in whatever process they are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.rounds.arena import Arena, RowRef
from byzflow.engine.rounds.calls import Roster, on_host
from byzflow.engine.rounds.forms import Signature
from byzflow.engine.rounds.mirrors import Domain, Mirrors, references
from byzflow.engine.rounds.picks import Places
from byzflow.engine.rounds.seats import Host, is_away
from byzflow.engine.rounds.showing import rewritten
from byzflow.engine.rounds.sites import Site, shareable, stay
from byzflow.engine.rounds.staff import Staff
from byzflow.exceptions import DeadlineError, NodeLostError

__all__ = ("Board",)


class Board:
    """One sheet of rows for each round, in memory of this process that the nodes' hosts map.

    Another one is for drafts, which nobody asks for after the round: memory is slow when it is first used.
    A host of another machine has a mirror of it, and fetches what it lacks from other hosts. Hosts come and
    go; what is on the board stays, until `release` says that nobody will ask for it again.

    Parameters
    ----------
    roster : Roster
        The nodes.
    staff : Staff
        Unmaps on the hosts what is not used any more.

    Examples
    --------
    >>> import asyncio, torch
    >>> from byzflow.engine.rounds.holding import hold
    >>> board, form = Board(Roster([object()]), Staff()), Signature("torch", "float32", (2_000_000,))
    >>> asyncio.run(board.open(0, form, rows=2))
    True
    >>> hold(torch.ones(2_000_000), board.places([1])[0]).row.open()[:2]
    tensor([1., 1.])
    >>> asyncio.run(board.close())
    """

    def __init__(self, roster: Roster, staff: Staff) -> None:
        self._roster, self._staff = roster, staff
        self._sheets: dict[int, Arena] = {}
        self._spare: list[Arena] = []
        self._dropped: list[Site] = []
        self._reaches: dict[HostRef, bool] = {}
        self._asking = asyncio.Lock()
        self._current: Arena | None = None
        self._draft: Arena | None = None
        self._mirrors = Mirrors(staff)

    async def open(self, round: int, form: Signature, rows: int, drafts: int = 0) -> bool:
        """Have a sheet for a round; False if the vectors cannot stay, or are small and do better without.

        Parameters
        ----------
        round : int
            Number of the round.
        form : Signature
            What the vectors look like.
        rows, drafts : int
            Rows that stay until they are released, and those that are free again in the next round.
        """
        is_small = not stay(len(self._roster.nodes), form)
        if not shareable(form) or (is_small and not self._suits_small(form)):
            return False
        known, before = self._sheets.get(round), self._current
        if known is None or not _fits(known, form, rows):
            if known is not None:
                self._drop([known])
            known = self._sheets[round] = self._blank(form, rows)
        self._current = known
        if drafts:
            self._spare[:0] = [] if self._draft is None else [self._draft]
            self._draft = self._blank(form, drafts)
        await self._forget()
        is_open = await self._reached(by_all=is_small)
        if is_small and not is_open:  # it was all for nothing, and calls need not be looked through for rows
            self._current = before
        return is_open

    def places(self, rows: Sequence[int]) -> Places:
        """Return rows of the sheet that was opened last."""
        assert self._current is not None
        return Places(self._current.site, rows)

    def drafts(self, rows: Sequence[int]) -> Places:
        """Return rows that are free again in the next round."""
        assert self._draft is not None
        return Places(self._draft.site, rows)

    def release(self, oldest: int) -> None:
        """Take back the sheets of rounds before `oldest`; not the last one, which late nodes may read."""
        for round in [round for round in self._sheets if round < oldest - 1]:
            self._spare.append(self._sheets.pop(round))

    async def close(self) -> None:
        """Let go of the memory, here and on the hosts."""
        drafts = [] if self._draft is None else [self._draft]
        self._drop([*self._sheets.values(), *self._spare, *drafts])
        self._sheets, self._spare, self._current, self._draft = {}, [], None, None
        await self._forget()
        await self._staff.close()

    def _suits_small(self, form: Signature) -> bool:
        """Whether a sheet may be worth it for small vectors: not where all are here, or some far away."""
        some_away = any(is_away(host) for host, _ in self._roster.hosts())
        return form.length > 0 and some_away and not self._mirrors.is_needed

    def _blank(self, form: Signature, rows: int) -> Arena:
        fitting = next((arena for arena in self._spare if _fits(arena, form, rows)), None)
        if fitting is None:
            self._drop(self._spare)
            self._spare = []
            return Arena(rows, form)
        self._spare.remove(fitting)
        self._mirrors.blank(fitting.site)
        return fitting

    def _drop(self, arenas: list[Arena]) -> None:
        self._dropped += [arena.site for arena in arenas]

    async def _forget(self) -> None:
        sites, self._dropped = self._dropped, []
        await self._staff.forget([*sites, *self._mirrors.forget(sites)])

    async def send(
        self, host: Host, queues: Sequence[Sequence[Call]], deadline: float | None
    ) -> Sequence[Sequence[Outcome]]:
        """As `on_host`, for calls that name rows; what a far host lacks of them is brought there first."""
        if self._current is None:
            return await on_host(host, queues, deadline)
        try:
            domain = await self._domain(host)
            if domain is None and not self._mirrors.is_needed:
                return await on_host(host, queues, deadline)
            calls = [call for queue in queues for call in queue]
            places = [place for call in calls if (place := call.kwargs.get("place")) is not None]
            rows = references([[call.args, _shown(call)] for call in calls])
            if domain is not None:
                await self._mirrors.sheets(domain, {row.site for row in (*rows, *places)})
            await self._mirrors.bring(domain, rows, lasting=True)
        except (NodeLostError, DeadlineError) as error:
            return [[Outcome(error=error)] * len(queue) for queue in queues]
        sent = [[self._sent(call, domain) for call in queue] for queue in queues]
        answers = await on_host(host, sent, deadline)
        return [
            [self._received(call, outcome, domain) for call, outcome in zip(queue, answer, strict=True)]
            for queue, answer in zip(queues, answers, strict=True)
        ]

    async def bring(self, rows: Sequence[RowRef], host: HostRef | None = None) -> list[RowRef]:
        """Have rows where a host can read them, or this process; return them as they are called there."""
        domain = None if host is None else await self._domain(host)
        await self._mirrors.bring(domain, rows)
        return [self._mirrors.there(row, domain) for row in rows]

    def readers(self, rows: Sequence[RowRef]) -> list[HostRef]:
        """Return hosts that should read rows: those near the board, or the far one with most of them."""
        return self._mirrors.readers(rows)

    def _sent(self, call: Call, domain: Domain) -> Call:
        if domain is None:
            return call
        args, kwargs = rewritten(lambda row: self._mirrors.there(row, domain), (call.args, dict(call.kwargs)))
        return replace(call, args=args, kwargs=kwargs)

    def _received(self, call: Call, outcome: Outcome, domain: Domain) -> Outcome:
        place, digest = call.kwargs.get("place"), outcome.value
        if place is None or outcome.error is not None or digest.row is None:
            return outcome
        self._mirrors.wrote(place, domain)
        return replace(outcome, value=replace(digest, row=place))

    async def _reached(self, *, by_all: bool) -> bool:
        """Whether hosts can read the board; those that cannot may mirror it, if there are others."""
        domains: set[Domain] = set()
        for host, indices in self._roster.hosts():
            if not isinstance(host, HostRef) and not all(map(self._roster.shares_memory, indices)):
                return False
            try:
                domains.add(await self._domain(host))
            except NodeLostError:
                continue
            except DeadlineError:
                return False
        with suppress(NodeLostError, DeadlineError):  # the calls that need the host will find it out
            await self._mirrors.protect()
        return domains <= {None} or (len(domains) > 1 and not by_all)

    async def _domain(self, host: Host) -> Domain:
        """Return where a host reads and writes rows."""
        if not isinstance(host, HostRef) or host.is_here:
            return None
        async with self._asking:
            if host not in self._reaches and self._current is not None:
                await self._staff.hire(host)
                (reached,) = await self._staff.ask("reaches", [([self._current.site],)], [host])
                self._reaches[host] = reached
                if not reached:
                    self._mirrors.join(host)
        return None if self._reaches.get(host, True) else host


def _shown(call: Call) -> list[Any]:
    """Return what a call is given by name, but for the row to write."""
    return [value for name, value in call.kwargs.items() if name != "place"]


def _fits(arena: Arena, form: Signature, rows: int) -> bool:
    return arena.site.signature == form and arena.site.rows >= rows
