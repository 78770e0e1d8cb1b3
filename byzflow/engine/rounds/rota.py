"""Whose state is saved before which round, so that none takes much longer than the others."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.rounds.answers import refusal
from byzflow.exceptions import DeadlineError, NodeLostError

__all__ = ("OBJECT", "REPAIR", "Rota")

logger = logging.getLogger(__name__)

REPAIR = "Repair it, or let its class give its state by state_dict() with saves_itself = True."

LOST = "will be lost with the worker"
REPLAYED = (
    "will be made anew if the worker is lost and do all rounds again, while what was sent in them fits "
    "byzflow.round.replay-memory"
)

OBJECT = 1 << 10  # bytes that a vector takes beside its own, at most, where it is kept for a replay

HEAVY = 1 << 24  # bytes of all states from which saving them at once, at 2 ms for each MB, makes a round long


class Rota:
    """Light states are saved all at once, every so many rounds; heavy ones in turns, a few before each round.

    Parameters
    ----------
    nodes : int
        How many there are.
    every : int
        Rounds from one state of a node to the next.

    Examples
    --------
    >>> rota = Rota(nodes=3, every=6)
    >>> rota.due(0)
    [0, 1, 2]
    >>> rota.saved(0, dict.fromkeys(rota.due(0), HEAVY))
    >>> rota.due(1), rota.due(2)
    ([], [0])
    """

    def __init__(self, nodes: int, every: int) -> None:
        self._every = every
        self._turns = dict.fromkeys(range(nodes))  # whose turn is next comes first
        self._sizes: dict[int, int] = {}
        self._is_heavy = False
        self._next, self._seen = 0, -1
        self._told: dict[int, str] = {}

    def due(self, round: int, also: Collection[int] = ()) -> list[int]:
        """Return the nodes to save before a round, `also` among them; none if that was done or begun.

        In the midst of a round a node has no state to begin it from.
        """
        if round <= self._seen:
            return []
        if self._is_heavy:
            n = len(self._turns)
            count = round * n // self._every - (round - 1) * n // self._every
        else:
            count = len(self._turns) if round >= self._next else 0
        return list(dict.fromkeys([*also, *islice(self._turns, count)]))

    def saved(self, round: int, sizes: Mapping[int, int]) -> None:
        """Note the nodes that were saved before a round, with the sizes of their states [bytes]."""
        self._seen = round
        if sizes:
            self._sizes.update(sizes)
            self._is_heavy = sum(self._sizes.values()) > HEAVY
            self._next = round + self._every
            for node in sizes:
                self._turns[node] = self._turns.pop(node)

    def refused(
        self, outcomes: Mapping[int, Outcome], names: Sequence[str], replayed: Collection[int] = ()
    ) -> set[int]:
        """Return the nodes that gave no state, as they refuse or are late, but for those that are lost.

        Of each that refuses is logged once what becomes of it if its worker is lost: those that may be
        `replayed` can come back as long as all that they were asked is kept.
        """
        failed = {i: out for i, out in outcomes.items() if not isinstance(out.error, NodeLostError | None)}
        refusals = {i: out for i, out in failed.items() if not isinstance(out.error, DeadlineError)}
        fates = {i: REPLAYED if i in replayed else LOST for i in refusals}
        for fate in (REPLAYED, LOST):
            new = [i for i in refusals if fates[i] == fate != self._told.get(i)]
            if not new:
                continue
            error, said = refusals[new[0]].error, refusals[new[0]].said
            assert error is not None
            logger.warning(
                "%s%s %s: no state can be kept (%s). %s",
                names[new[0]],
                f" and {len(new) - 1} more" if new[1:] else "",
                fate,
                refusal(error, said)[1],
                REPAIR,
            )
        self._told |= fates
        return set(failed)
