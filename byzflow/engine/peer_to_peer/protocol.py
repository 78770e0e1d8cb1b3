"""One peer-to-peer round without I/O: events go in, instructions come out.

Every honest node takes its half step; the vectors go along the out-edges; Byzantine nodes answer last, with
what they heard in this round, and may tell every receiver something else; a node aggregates as soon as the
last of its in-neighbours has answered or is out. Who is called where and how long it took is the shell's
business (``execution.py``); who is left out and whether the round may stand is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from byzflow.engine.peer_to_peer.letters import ATTACK, HALF_STEP, Came, Letters
from byzflow.engine.peer_to_peer.messages import (
    Aggregate,
    Aggregated,
    DeadlinePassed,
    Event,
    Forge,
    Forged,
    HalfStep,
    HalfStepTaken,
    Instruction,
)
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.rounds.answers import Answered, Exclusion
from byzflow.exceptions import DeadlineError, ToleranceError

__all__ = ("PeerRound",)


class PeerRound:
    """One round as a state machine: ``start``, then ``handle`` every event until nothing is `pending`.

    Parameters
    ----------
    topology : Topology
        Of this round; honest nodes come first.
    n_honest : int
        Number of honest nodes.
    number : int, default 0
        Number of the round.
    quorum : int or None
        Honest nodes that must come through for the round to stand. None: every one whose half step is in, as
        far as its rule is concerned; a node that fails for another reason is left out and no more.
    equivocal : collection of int
        Byzantine nodes that answer once per receiver.

    Examples
    --------
    >>> import numpy as np
    >>> peers = PeerRound(Topology.complete(3), n_honest=2)
    >>> peers.start()
    [HalfStep(node=0), HalfStep(node=1)]
    >>> peers.handle(HalfStepTaken(0, Came(np.zeros(2))))
    []
    >>> peers.handle(HalfStepTaken(1, Came(np.ones(2))))
    [Forge(node=2, receiver=None)]
    >>> peers.handle(Forged(2, Came(np.full(2, np.nan))))
    [Aggregate(node=0, senders=(1,)), Aggregate(node=1, senders=(0,))]
    >>> print(*peers.excluded)
    byzantine-0 (attack, non-finite: an entry is NaN or infinite)
    """

    def __init__(
        self,
        topology: Topology,
        n_honest: int,
        number: int = 0,
        *,
        quorum: int | None = None,
        equivocal: Collection[int] = (),
    ) -> None:
        self.topology = topology
        self.n_honest = n_honest
        self.number = number
        self.quorum = quorum
        self.pending: dict[Instruction, None] = {}
        byzantine = range(topology.n - n_honest)
        self.letters = Letters(
            (*(f"honest-{i}" for i in range(n_honest)), *(f"byzantine-{i}" for i in byzantine))
        )
        self._equivocal = frozenset(equivocal)
        self._missing = [len(topology.in_neighbors(i)) for i in range(n_honest)]
        self._half_steps_due = n_honest
        self._aggregating: dict[int, Aggregate] = {}
        self._through: set[int] = set()
        self._refusals: list[Exclusion] = []

    @property
    def excluded(self) -> tuple[Exclusion, ...]:
        """Who was left out of what, and why, by phase."""
        return self.letters.excluded

    @property
    def through(self) -> tuple[int, ...]:
        """Honest nodes that have finished the round, ascending: they hold the mixed vector."""
        return tuple(sorted(self._through))

    @property
    def half_steps(self) -> dict[int, Any]:
        """Fit half steps by honest node, in node order."""
        return {i: self.letters.vector(i) for i in range(self.n_honest) if self.letters.has(i)}

    def heard(self, byzantine: int) -> tuple[int, ...]:
        """Honest nodes whose half step of this round a Byzantine node gets to see, ascending."""
        senders = self.topology.in_neighbors(byzantine)
        return tuple(j for j in senders if j < self.n_honest and self.letters.has(j))

    def start(self) -> list[Instruction]:
        """Begin: every honest node is asked for its half step."""
        return self._issue(HalfStep(i) for i in range(self.n_honest))

    def handle(self, event: Event) -> list[Instruction]:
        """Take one event and return what is to be done next; a late or second answer is ignored.

        Raises
        ------
        ToleranceError
            If no honest half step is left, or fewer than the quorum.
        """
        match event:
            case HalfStepTaken(node, outcome):
                return self._answered(HalfStep(node), outcome)
            case Forged(node, outcome, receiver):
                return self._answered(Forge(node, receiver), outcome)
            case Aggregated(node, outcome):
                task = self._aggregating.get(node)
                return [] if task is None else self._answered(task, outcome)
            case DeadlinePassed(asked):
                late = tuple(self.pending) if asked is None else asked
                out = Came(error=DeadlineError("no answer before the deadline"))
                return [new for task in late for new in self._answered(task, out)]

    def failure(self) -> ToleranceError | None:
        """Return why the finished round does not stand, or None."""
        done = len(self._through)
        if self.quorum is None and self._refusals:
            who = "; ".join(map(str, self._refusals[:5])) + (" …" if len(self._refusals) > 5 else "")
            return ToleranceError(
                f"Round {self.number}: the rules of {len(self._refusals)} honest nodes cannot run on what "
                f"reached them: {who}. {self.letters.who()} Lower their f, give them more neighbours, or set "
                "a quorum."
            )
        needed = 1 if self.quorum is None else self.quorum
        return self._too_few(done, needed) if done < needed else None

    def _issue(self, tasks: Iterable[Instruction]) -> list[Instruction]:
        new = list(tasks)
        self.pending.update(dict.fromkeys(new))
        return new

    def _answered(self, task: Instruction, outcome: Answered) -> list[Instruction]:
        if task not in self.pending:
            return []
        del self.pending[task]
        match task:
            case HalfStep(node):
                self.letters.post(node, outcome, HALF_STEP)
                return self._after_half_step(node)
            case Forge(node, receiver):
                self.letters.post(node, outcome, ATTACK, receiver)
                return self._resolved(self._receivers(node) if receiver is None else [receiver])
            case Aggregate(node):
                self._close(node, outcome)
                return []

    def _after_half_step(self, node: int) -> list[Instruction]:
        self._half_steps_due -= 1
        ready = self._resolved(self._receivers(node), own=node)
        if self._half_steps_due:
            return ready
        fit, needed = len(self.half_steps), max(1, self.quorum or 1)
        if fit < needed:
            raise self._too_few(fit, needed) from self.letters.first_error
        return ready + self._issue(self._forgeries())

    def _forgeries(self) -> Iterable[Forge]:
        for node in range(self.n_honest, self.topology.n):
            receivers = [i for i in self._receivers(node) if self.letters.has(i)]
            if receivers and node in self._equivocal:
                yield from (Forge(node, i) for i in receivers)
            elif receivers:
                yield Forge(node)

    def _receivers(self, node: int) -> list[int]:
        return [i for i in self.topology.out_neighbors(node) if i < self.n_honest]

    def _resolved(self, receivers: list[int], own: int | None = None) -> list[Instruction]:
        """Count one sender less to wait for; whoever has nobody left may go on, `own` (new) included."""
        for i in receivers:
            self._missing[i] -= 1
        asked = receivers if own is None else sorted((own, *receivers))
        ready = [i for i in asked if not self._missing[i] and self.letters.has(i)]
        self._through.update(i for i in ready if not self.topology.in_neighbors(i))
        mixing = [Aggregate(i, self._senders(i)) for i in ready if self.topology.in_neighbors(i)]
        self._aggregating.update((task.node, task) for task in mixing)
        return self._issue(mixing)

    def _senders(self, receiver: int) -> tuple[int, ...]:
        return tuple(j for j in self.topology.in_neighbors(receiver) if self.letters.fit(j, receiver))

    def _close(self, node: int, outcome: Answered) -> None:
        if outcome.error is None:
            self._through.add(node)
            return
        exclusion = self.letters.failed(node, outcome.error, getattr(outcome, "said", None))
        if isinstance(outcome.error, ToleranceError):
            self._refusals.append(exclusion)

    def _too_few(self, came: int, needed: int) -> ToleranceError:
        return ToleranceError(
            f"Round {self.number} needs {needed} of {self.n_honest} honest nodes; {came} came through. "
            f"{self.letters.who()} Repair these nodes, allow more time, or lower the quorum."
        )
