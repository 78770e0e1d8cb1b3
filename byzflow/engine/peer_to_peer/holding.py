"""The vectors of a round that stay with the hosts of their nodes, and how far they are apart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from byzflow.engine.actor.stack import SMALL
from byzflow.engine.peer_to_peer.consensus import COLUMNS, block_spreads, consensus_distance, total_spread
from byzflow.engine.peer_to_peer.peers import FORGE, Peers
from byzflow.engine.rounds.arena import RowRef
from byzflow.engine.rounds.board import Board
from byzflow.engine.rounds.forms import Signature
from byzflow.engine.rounds.picks import Places, sheets_of
from byzflow.engine.rounds.showing import resolved
from byzflow.engine.rounds.staff import Clerk, Staff
from byzflow.exceptions import DeadlineError, NodeLostError
from byzflow.kernels.blocks import Span, shards

__all__ = ("Holding", "Surveyor")


class Surveyor(Clerk):
    """Measures, on a host, how far vectors are apart."""

    def survey(self, refs: Sequence[RowRef], span: Span) -> list[float]:
        """Return what some columns add to the consensus distance, block by block."""
        return block_spreads(resolved(list(refs)), span)


class Holding:
    """A run's board, and which of its rows is whose.

    Parameters
    ----------
    peers : Peers
        The nodes.

    Attributes
    ----------
    form : Signature or None
        The form that most vectors of the last round had.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._staff = Staff(Surveyor)
        self._board = Board(peers.roster, self._staff)
        self.form: Signature | None = None
        peers.send = self._board.send

    async def open(self, number: int, oldest: int, deadline: float | None) -> bool:
        """Have rows for the vectors of a round; False if they have to go through this process.

        Parameters
        ----------
        number : int
            Number of the round.
        oldest : int
            The first round whose vectors somebody may ask for again.
        deadline : float or None
            Seconds for the answers of the hosts.
        """
        self._staff.deadline = deadline
        self._board.release(oldest)
        n_honest = self._peers.n_honest
        rows = len(self._peers) + len(self._two_faced) * n_honest
        return self.form is not None and await self._board.open(number, self.form, rows, drafts=n_honest)

    def places(self, senders: Sequence[int], receivers: Sequence[int | None] | None = None) -> Places:
        """Return the rows for what nodes send: each to its receiver, or (None) to all."""
        if receivers is None:
            return self._board.places(senders)
        n, honest = len(self._peers), self._peers.n_honest
        first = {node: n + at * honest for at, node in enumerate(self._two_faced)}
        return self._board.places(
            [j if i is None else first[j] + i for j, i in zip(senders, receivers, strict=True)]
        )

    def mixed(self, nodes: Sequence[int]) -> Places:
        """Return the rows for what honest nodes hold at the end of the round."""
        return self._board.drafts(nodes)

    async def spread(self, rows: Sequence[Any]) -> float | None:
        """Return the consensus distance of vectors, measured on the hosts if all of them are there.

        It is None if one of them has just been lost.
        """
        if not all(isinstance(row, RowRef) for row in rows):
            is_here = await self.here(rows)
            return await asyncio.to_thread(consensus_distance, resolved(list(rows))) if is_here else None
        form: Signature = rows[0].site.signature
        found = [] if form.nbytes <= SMALL else await self._surveyed(rows, form.length)
        if not found and await self.here(rows):
            found = [await asyncio.to_thread(block_spreads, sheets_of(rows), Span(0, form.length))]
        return total_spread([part for parts in found for part in parts], len(rows)) if found else None

    async def _surveyed(self, rows: Sequence[RowRef], d: int) -> list[list[float]]:
        """Have hosts measure; for small vectors the messages would take longer. Nothing, if one is lost."""
        surveyors = self._board.readers(rows)
        spans = shards(d, max(1, len(surveyors)), COLUMNS)
        try:
            work = [
                (await self._board.bring(rows, host), span)
                for host, span in zip(surveyors, spans, strict=False)
            ]
            return list(await self._staff.ask("survey", work, surveyors))
        except (NodeLostError, DeadlineError):
            return []

    async def here(self, rows: Sequence[Any]) -> bool:
        """Have rows where this process can read them; False if one of them is lost."""
        try:
            await self._board.bring([row for row in rows if isinstance(row, RowRef)])
        except (NodeLostError, DeadlineError):
            return False
        return True

    async def close(self) -> None:
        """Let go of the memory."""
        await self._board.close()

    @property
    def _two_faced(self) -> list[int]:
        """Byzantine nodes that tell each receiver something else."""
        return [i for i in range(self._peers.n_honest, len(self._peers)) if self._peers.can(i, FORGE)]
