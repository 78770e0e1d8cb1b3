"""Rows in which the nodes of a run leave vectors for one another, in whatever process they are."""

from __future__ import annotations

from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.node.arena import Arena, RowRef
from byzflow.engine.node.calls import Roster
from byzflow.engine.node.forms import Signature
from byzflow.engine.node.sites import Site, shareable
from byzflow.engine.node.staff import Staff
from byzflow.exceptions import NodeLostError

__all__ = ("Board",)

LARGE = 2_000_000  # entries of all nodes' vectors from which those stay where they are made


class Board:
    """One sheet of rows for each round, in memory of this process that the nodes' hosts map.

    Hosts come and go; what is on the board stays, until `release` says that nobody will ask for it again.

    Parameters
    ----------
    roster : Roster
        The nodes.
    staff : Staff
        Unmaps on the hosts what is not used any more.

    Examples
    --------
    >>> import asyncio, torch
    >>> from byzflow.engine.node.holding import hold
    >>> board, form = Board(Roster([object()]), Staff()), Signature("torch", "float32", (LARGE,))
    >>> asyncio.run(board.open(0, form, rows=2))
    True
    >>> hold(torch.ones(LARGE), board.place(1)).row.open()[:2]
    tensor([1., 1.])
    >>> asyncio.run(board.close())
    """

    def __init__(self, roster: Roster, staff: Staff) -> None:
        self._roster, self._staff = roster, staff
        self._sheets: dict[int, Arena] = {}
        self._spare: list[Arena] = []
        self._dropped: list[Site] = []
        self._near: dict[HostRef, bool] = {}
        self._current: Arena | None = None

    async def open(self, round: int, form: Signature, rows: int) -> bool:
        """Have a sheet for a round; False if the vectors are small, or a host cannot reach this memory."""
        if not shareable(form) or len(self._roster.nodes) * form.length < LARGE:
            return False
        known = self._sheets.get(round)
        if known is None or not _fits(known, form, rows):
            if known is not None:
                self._drop([known])
            known = self._sheets[round] = self._blank(form, rows)
        self._current = known
        await self._forget()
        return await self._reached(known.site)

    def place(self, row: int) -> RowRef:
        """Return a row of the sheet that was opened last."""
        assert self._current is not None
        return RowRef(self._current.site, row)

    def release(self, oldest: int) -> None:
        """Take back the sheets of rounds before `oldest`; not the last one, which late nodes may read."""
        for round in [round for round in self._sheets if round < oldest - 1]:
            self._spare.append(self._sheets.pop(round))

    async def close(self) -> None:
        """Let go of the memory, here and on the hosts."""
        self._drop([*self._sheets.values(), *self._spare])
        self._sheets, self._spare, self._current = {}, [], None
        await self._forget()
        await self._staff.close()

    def _blank(self, form: Signature, rows: int) -> Arena:
        fitting = next((arena for arena in self._spare if _fits(arena, form, rows)), None)
        if fitting is None:
            self._drop(self._spare)
            self._spare = []
            return Arena(rows, form)
        self._spare.remove(fitting)
        return fitting

    def _drop(self, arenas: list[Arena]) -> None:
        self._dropped += [arena.site for arena in arenas]

    async def _forget(self) -> None:
        sites, self._dropped = self._dropped, []
        await self._staff.forget(sites)

    async def _reached(self, site: Site) -> bool:
        """Whether the hosts of all nodes can map this memory; a lost host is asked when it is replaced."""
        for host, indices in self._roster.hosts():
            if not isinstance(host, HostRef):
                near = all(self._roster.shares_memory(i) for i in indices)
            else:
                near = await self._is_near(host, site)
            if not near:
                return False
        return True

    async def _is_near(self, host: HostRef, site: Site) -> bool:
        if host.address.startswith("inproc://") or host.lost:
            return True
        if host not in self._near:
            try:
                await self._staff.hire(host)
                self._near[host] = all(await self._staff.ask("reaches", [([site],)], [host]))
            except NodeLostError:
                return True
            except TimeoutError:
                return False
        return self._near[host]


def _fits(arena: Arena, form: Signature, rows: int) -> bool:
    return arena.site.signature == form and arena.site.rows >= rows
