"""A round under way: what is known of it so far."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.parameter_server.plan import RoundPlan
from byzflow.engine.rounds.arena import RowRef
from byzflow.engine.rounds.attributes import State
from byzflow.engine.rounds.calls import Ask

__all__ = ("Progress",)


class Progress:
    """What a round has come to.

    Attributes
    ----------
    plan : RoundPlan
        Who is in it.
    held : bool
        Whether the vectors stay with their hosts.
    aggregate : array or None
        The answer, once it is known.
    kept_at : RowRef or None
        Where the hosts can read it.
    weights : dict of int to float, or None
        Weight of each node's vector, if the rule is linear.
    state : mapping or None
        What the rule remembers after this round.
    states : dict of int to State
        States of Byzantine nodes after their attack.
    lies : tuple of Ask
        What Byzantine nodes were asked whose state was not saved with the attack.
    seconds : dict of str to float
        Time spent by phase [seconds].
    """

    def __init__(self, plan: RoundPlan) -> None:
        self.plan = plan
        self.held = False
        self.aggregate: Any = None
        self.kept_at: RowRef | None = None
        self.weights: dict[int, float] | None = None
        self.state: Mapping[str, Any] | None = None
        self.states: dict[int, State] = {}
        self.lies: tuple[Ask, ...] = ()
        self.seconds: dict[str, float] = {}

    def without_states(
        self, outcomes: Mapping[int, Outcome], saved: Collection[int]
    ) -> Mapping[int, Outcome]:
        """Take the states out of the answers that came with one."""
        if not saved:
            return outcomes
        plain = dict(outcomes)
        for index in saved:
            if plain[index].error is None:
                value, self.states[index] = plain[index].value
                plain[index] = Outcome(value)
        return plain

    @contextmanager
    def clock(self, phase: str) -> Iterator[None]:
        """Add the time inside the block to a phase."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - begin
