"""One peer-to-peer round without I/O: what came of instructions goes in, the next instructions come out.

Every honest node takes its half step; the vectors go along the out-edges; Byzantine nodes answer last, with
what they heard in this round, and may tell every receiver something else; a node aggregates as soon as the
last of its in-neighbours has answered or is out. Who is called where and how long it took is the shell's
business (``execution.py``); who is left out and whether the round may stand is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from byzflow.engine.parameter_server.plan import Cohort
from byzflow.engine.peer_to_peer.letters import ATTACK, HALF_STEP, Letters
from byzflow.engine.peer_to_peer.messages import Aggregate, Forge, HalfStep, Instruction
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.rounds.answers import Answered, Exclusion, remedy
from byzflow.exceptions import ToleranceError

__all__ = ("PeerRound",)


class PeerRound:
    """One round as a state machine: ``start``, then ``handle`` what came until nothing is `pending`.

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
    >>> from byzflow.engine.peer_to_peer.letters import Came
    >>> peers = PeerRound(Topology.complete(3), n_honest=2)
    >>> peers.start()
    [HalfStep(node=0), HalfStep(node=1)]
    >>> peers.handle({HalfStep(0): Came(np.zeros(2)), HalfStep(1): Came(np.ones(2))})
    [Forge(node=2, receiver=None)]
    >>> peers.handle({Forge(2): Came(np.full(2, np.nan))})
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
        self.pending: set[Instruction] = set()
        self.letters = Letters(Cohort(n_honest, topology.n - n_honest).names)
        self._equivocal = frozenset(equivocal)
        self._silent = set(range(topology.n))  # nobody knows yet what they send
        self._owed: set[tuple[int, int]] = set()  # senders that answer once per receiver, and who waits
        self._waiting: set[int] = set()
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

    def handle(self, answers: Mapping[Instruction, Answered]) -> list[Instruction]:
        """Take what came of instructions and return what is to be done next.

        What comes late, or for the second time, is ignored.

        Raises
        ------
        ToleranceError
            If no honest half step is left, or fewer than the quorum.
        """
        were_in = self._half_steps_are_in()
        for task, outcome in answers.items():
            if task in self.pending:
                self._take(task, outcome)
        is_over = self._half_steps_are_in() and not were_in
        return self._issue([*self._ready(), *(self._forgeries() if is_over else ())])

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
        self.pending.update(new)
        return new

    def _take(self, task: Instruction, outcome: Answered) -> None:
        self.pending.remove(task)
        match task:
            case HalfStep(node):
                self.letters.post(node, outcome, HALF_STEP)
                self._silent.discard(node)
                if self.letters.has(node):
                    is_alone = not self.topology.in_neighbors(node)
                    (self._through if is_alone else self._waiting).add(node)
            case Forge(node, receiver):
                self.letters.post(node, outcome, ATTACK, receiver)
                if receiver is None:
                    self._silent.discard(node)
                else:
                    self._owed.remove((node, receiver))
            case Aggregate(node):
                self._close(node, outcome)

    def _half_steps_are_in(self) -> bool:
        return self._silent.isdisjoint(range(self.n_honest))

    def _forgeries(self) -> list[Forge]:
        """Return what Byzantine nodes are asked, now that all half steps are known that will be."""
        fit, needed = len(self.half_steps), max(1, self.quorum or 1)
        if fit < needed:
            raise self._too_few(fit, needed) from self.letters.first_error
        tasks: list[Forge] = []
        for node in range(self.n_honest, self.topology.n):
            asking = [i for i in self.topology.out_neighbors(node) if i in self._waiting]
            if node in self._equivocal:
                self._silent.discard(node)
                self._owed.update((node, i) for i in asking)
                tasks += [Forge(node, i) for i in asking]
            elif asking:
                tasks.append(Forge(node))
        return tasks

    def _ready(self) -> list[Aggregate]:
        """Return the aggregations of those that have nobody left to wait for, ascending."""
        senders = self.topology.in_neighbors
        ready = sorted(i for i in self._waiting if self._silent.isdisjoint(senders(i)))
        if self._owed:
            ready = [i for i in ready if self._owed.isdisjoint((j, i) for j in senders(i))]
        self._waiting.difference_update(ready)
        return [Aggregate(i, self.letters.fit(senders(i), i)) for i in ready]

    def _close(self, node: int, outcome: Answered) -> None:
        if outcome.error is None:
            self._through.add(node)
            return
        exclusion = self.letters.failed(node, outcome.error, getattr(outcome, "said", None))
        if isinstance(outcome.error, ToleranceError):
            self._refusals.append(exclusion)

    def _too_few(self, came: int, needed: int) -> ToleranceError:
        usual = "Repair these nodes, allow more time, or lower the quorum."
        return ToleranceError(
            f"Round {self.number} needs {needed} of {self.n_honest} honest nodes; {came} came through. "
            f"{self.letters.who()} {usual if self.half_steps else remedy(self.letters.excluded, usual)}"
        )
