"""Aggregation of large vectors where they lie: each host takes a run of columns of all rows.

The vectors stay in the arenas of the hosts, which share one machine; the coordinator sees statistics and a
plan. The bits are those of the eager rule.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.rounds.arena import RowRef
from byzflow.engine.rounds.calls import Roster
from byzflow.engine.rounds.forms import Signature
from byzflow.engine.rounds.isolation import isolated
from byzflow.engine.rounds.mirrors import VectorLostError
from byzflow.engine.rounds.sites import Site, mapped, reachable, stay
from byzflow.engine.rounds.staff import Clerk, Staff
from byzflow.exceptions import DeadlineError
from byzflow.kernels.blocks import Span, Tree, shards, widest
from byzflow.operators.rows import RowOperator
from byzflow.operators.shards import apply_shard, measure_shard, solve_tree

__all__ = ("Keeper", "Sharding")

ATTEMPTS = 3  # to make arenas on hosts of which one is not in time


class Keeper(Clerk):
    """The work of one host on its run of columns."""

    def measure(self, rule: RowOperator, refs: Sequence[RowRef], span: Span) -> Tree:
        """Return the statistics of some columns of all rows."""
        return measure_shard(rule, _slices(refs, span), span, refs[0].site.signature.length)

    def combine(self, rule: RowOperator, refs: Sequence[RowRef], span: Span, plan: Any, out: RowRef) -> bool:
        """Write some columns of the answer; False to have them measured after all."""
        piece = apply_shard(rule, _slices(refs, span), span, refs[0].site.signature.length, plan)[0]
        out.write(span.lo, span.hi, piece)
        return not rule.optimistic or bool((abs(piece) < float("inf")).all())


class Sharding:
    """The arenas of a server's hosts.

    Parameters
    ----------
    roster : Roster
        The nodes.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._possible = hasattr(os, "memfd_create")
        self._staff = Staff(Keeper)
        self._form: Any = None
        self._tried: Any = None
        self._attempts = 0
        self._hung = -1
        self._hosts: list[tuple[HostRef, tuple[int, ...]]] = []
        self._sites: list[Site] = []
        self._places: tuple[dict[int, RowRef], ...] = ({}, {})

    @property
    def possible(self) -> bool:
        """Whether all nodes are on hosts of their own processes, which may be able to share memory."""
        hosts = [host for host, _ in self._roster.hosts()] if self._possible else []
        return bool(hosts) and all(isinstance(host, HostRef) and not host.is_here for host in hosts)

    async def ready(self, signature: Signature, deadline: float | None) -> bool:
        """Make the arenas if there are none that fit; False if they cannot be shared, or one is late.

        Raises
        ------
        NodeLostError
            If a host is gone.
        """
        self._staff.deadline = deadline
        if not stay(len(self._roster.nodes), signature):
            return False
        hosts = self._roster.hosts()
        form = (signature, [(id(host), indices) for host, indices in hosts])
        if form != self._form:
            self._attempts = self._attempts + 1 if form == self._tried else 1
            self._tried = form
            if self._attempts > ATTEMPTS:
                return False
            await self.close()
            try:
                await self._open(signature, hosts)
            except DeadlineError:
                return False
            self._form = form
        return self._possible

    def places(self, round: int) -> Mapping[int, RowRef]:
        """Return the row for what each node makes in a round; even and odd rounds have their own."""
        return self._places[round % 2]

    async def run(self, rule: RowOperator, refs: Sequence[RowRef], round: int) -> tuple[Any, Any, RowRef]:
        """Return the aggregate, the plan, and where the hosts can read the aggregate.

        Hosts of which no node answered do no work: they may hang too.

        Raises
        ------
        NodeLostError
            If a host is gone, or hangs.
        DeadlineError
            If one hangs for the second time in a round.
        """
        rule.check(len(refs))
        used = {ref.site for ref in refs}
        parts = [
            (host, site) for (host, _), site in zip(self._hosts, self._sites, strict=True) if site in used
        ]
        hosts, home = [host for host, _ in parts], parts[0][1]
        half = home.rows // 2
        out = RowRef(home, (round % 2) * half + half - 1)
        d = home.signature.length
        spans = shards(d, len(hosts), widest(d))

        async def work(method: str, asks: Sequence[tuple[Any, ...]]) -> list[Any]:
            try:
                return await self._staff.ask(method, asks, hosts, patient=True)
            except DeadlineError as error:
                if self._hung == round:
                    raise
                self._hung = round
                raise VectorLostError(f"a host that holds vectors hangs ({error})") from None

        async def plan_of(*, measured: bool) -> Any:
            asks = [(rule, refs, span) for span in spans] if measured else []
            trees = await work("measure", asks)
            return solve_tree(rule, Tree.merge(trees) if trees else Tree({}), len(refs))

        plan = await plan_of(measured=rule.measures and not rule.optimistic)
        finite = await work("combine", [(rule, refs, span, plan, out) for span in spans])
        if rule.optimistic and not all(finite):
            plan = await plan_of(measured=True)
            await work("combine", [(rule, refs, span, plan, out) for span in spans])
        return await asyncio.to_thread(lambda: isolated(out.open())), plan, out

    async def close(self) -> None:
        """Release the arenas."""
        sites, self._form = self._sites, None
        self._hosts, self._sites, self._places = [], [], ({}, {})
        await self._staff.forget(sites)
        await self._staff.close()

    async def _open(self, signature: Signature, hosts: Sequence[tuple[Any, tuple[int, ...]]]) -> None:
        self._hosts = list(hosts)
        for host, _ in hosts:
            await self._staff.hire(host)
        self._sites = await self._all("sheet", [(2 * (len(part) + 1), signature) for _, part in hosts])
        within = await self._all("reaches", [(self._sites,)] * len(hosts))
        self._possible = all(within) and reachable(self._sites)
        self._places = tuple(
            {
                index: RowRef(site, half * (len(indices) + 1) + position)
                for (_, indices), site in zip(hosts, self._sites, strict=True)
                for position, index in enumerate(indices)
            }
            for half in (0, 1)
        )

    async def _all(self, method: str, work: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call the keepers of the first hosts, as many as there is work."""
        return await self._staff.ask(method, work, [host for host, _ in self._hosts])


def _slices(refs: Sequence[RowRef], span: Span) -> list[Any]:
    """Return columns of rows, (w,) each."""
    parts = {site: _split(mapped(site)[:, span.lo : span.hi]) for site in {ref.site for ref in refs}}
    return [parts[ref.site][ref.row] for ref in refs]


def _split(matrix: Any) -> Sequence[Any]:
    return matrix.unbind() if isinstance(matrix, torch.Tensor) else matrix
