"""How long nodes that were late are waited for: as long as the others take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

from byzflow.engine.rounds.calls import Roster

__all__ = ("Patience",)

LEAST = 0.05  # seconds that a node that was late before has at least

T = TypeVar("T")


class Patience:
    """Nodes that were late, and hosts that said nothing.

    Parameters
    ----------
    roster : Roster
        Who is where.

    Attributes
    ----------
    late : set of int
        Nodes that were late the last time they were asked.
    """

    def __init__(self, roster: Roster) -> None:
        self.late: set[int] = set()
        self._roster = roster
        self._round, self._has_waited = -1, False

    def slow(self, round: int) -> set[int]:
        """Return the nodes that are not to be waited for: those that were late, and all of silent hosts."""
        if round != self._round:
            self._round, self._has_waited = round, False
        silent = self._roster.silent()
        return self.late | silent if silent else self.late

    def note(self) -> None:
        """Note that nodes have had all their time, some of which may be on silent hosts."""
        self._has_waited = self._has_waited or bool(self._roster.silent())

    async def wait(
        self,
        quick: Coroutine[Any, Any, T],
        slow: Coroutine[Any, Any, T],
        nodes: Collection[int],
        *,
        alone: bool,
    ) -> tuple[T, T | None]:
        """Await what quick nodes answer, and what slow ones do; None if these take longer.

        Parameters
        ----------
        quick, slow : coroutine
            What to await.
        nodes : collection of int
            The slow nodes.
        alone : bool
            Whether there are no others. Then they have all their time, but on silent hosts once in a round.
        """
        if alone and self._has_waited:
            alone = not self._roster.silent().issuperset(nodes)
        begin = time.perf_counter()
        waiting = asyncio.ensure_future(slow)
        try:
            answers = await quick
            spent = time.perf_counter() - begin
            await asyncio.wait([waiting], timeout=None if alone else max(LEAST, spent))
            return answers, waiting.result() if waiting.done() else None
        finally:
            waiting.cancel()
            self.note()
