"""One round carried out: instructions become calls, wave by wave, and what came back is judged."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.peer_to_peer.carrier import Carrier
from byzflow.engine.peer_to_peer.consensus import consensus_distance
from byzflow.engine.peer_to_peer.delivery import Delivery
from byzflow.engine.peer_to_peer.holding import Holding
from byzflow.engine.peer_to_peer.letters import AGGREGATE as AGGREGATING
from byzflow.engine.peer_to_peer.letters import ATTACK, HALF_STEP, Came, Kept, measured
from byzflow.engine.peer_to_peer.memory import PeerMemory
from byzflow.engine.peer_to_peer.messages import Aggregate, Forge, HalfStep, Instruction
from byzflow.engine.peer_to_peer.peers import AGGREGATE, Peers
from byzflow.engine.peer_to_peer.protocol import PeerRound
from byzflow.engine.peer_to_peer.report import PeerReport
from byzflow.engine.peer_to_peer.requests import Requests
from byzflow.engine.peer_to_peer.weights import Scheme
from byzflow.engine.rounds.answers import Answered, judge
from byzflow.engine.rounds.forms import Digest, digest_of, norm_of
from byzflow.engine.rounds.outcomes import errors_of

__all__ = ("Execution",)

_DONE = Came()
_WAVES = {HalfStep: HALF_STEP, Aggregate: AGGREGATING, Forge: ATTACK}  # the last one there names the wave


class Execution:
    """The calls of one round.

    Parameters
    ----------
    round : PeerRound
        What is to be done.
    peers : Peers
        Who does it.
    lr, mixing, seed
        See `Requests`.
    deadline : float or None
        Seconds for the answers in one wave.
    memory : PeerMemory
        Brings lost nodes back.
    carrier : Carrier or None
        Carries the vectors along the edges; without one they travel with the calls.
    holding : Holding or None
        Where vectors can stay that are not carried.
    """

    def __init__(
        self,
        round: PeerRound,
        peers: Peers,
        *,
        lr: float,
        deadline: float | None,
        mixing: Scheme | None,
        seed: int | None,
        memory: PeerMemory,
        carrier: Carrier | None,
        holding: Holding | None,
    ) -> None:
        self.round, self.peers = round, peers
        self._memory = memory
        self.delivery = Delivery(peers, memory, round.number, deadline)
        self._requests = Requests(round, peers, lr=lr, mixing=mixing, seed=seed)
        self._carrier, self._holding, self._deadline = carrier, holding, deadline
        self._seconds: dict[str, float] = {}
        self._mixed: dict[int, Any] = {}

    async def wave(self, tasks: Sequence[Instruction]) -> dict[Instruction, Answered]:
        """Carry out instructions side by side; return what came of each."""
        kinds = {type(task) for task in tasks}
        phase = next(name for kind, name in reversed(_WAVES.items()) if kind in kinds)
        begin = time.perf_counter()
        if HalfStep in kinds:
            await self._find_place(tasks)
        await self._carry(tasks)
        requests = self._requests
        if requests.holding is not None and requests.needs_template(tasks):
            await requests.holding.here(list(self.round.half_steps.values())[:1])
        outcomes = await self.delivery.outcomes(tasks, requests.calls, requests.shown)
        latest = {task: queue[-1] for task, queue in outcomes.items()}
        await self._fetch_odd(latest)
        self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - begin
        return self._vectors(tasks, latest) | self._mixes(tasks, outcomes, latest)

    async def report(self) -> PeerReport:
        """Close the round."""
        letters, through = self.round.letters, self.round.through
        lonely = {
            i: step for i, step in self.round.half_steps.items() if not self.round.topology.in_neighbors(i)
        }
        known = {**lonely, **self._mixed} if any(map(self._requests.tells, through)) else {}
        if self._holding is not None:
            self._holding.form = letters.usual or self._holding.form
        return PeerReport(
            round=self.round.number,
            nodes=letters.names,
            n_honest=self.round.n_honest,
            seconds=MappingProxyType(dict(self._seconds)),
            bytes_moved=self._moved(),
            excluded=self.round.excluded,
            norms=letters.norms,
            through=tuple(letters.names[i] for i in through),
            respawned=tuple(letters.names[i] for i in sorted(self.delivery.respawned)),
            spread=await self._spread(self.round.half_steps.values()),
            consensus_distance=await self._spread(known[i] for i in through if i in known),
        )

    async def _find_place(self, tasks: Sequence[Instruction]) -> None:
        """Let the vectors of this round stay where they are made, if they can."""
        holding, requests = self._holding, self._requests
        if holding is None:
            return
        if holding.form is None and not all(self.peers.is_here(task.node) for task in tasks):
            outcomes = await self.delivery.outcomes(tasks, requests.probes, requests.shown)
            answers = {task.node: outcome for task, (outcome,) in outcomes.items()}
            holding.form = judge(answers, self.round.letters.names, HALF_STEP, held=True).signature
        requests.most = None if holding.form is None else holding.form.ceiling
        oldest = self._memory.oldest(self.round.number)
        if await holding.open(self.round.number, oldest, self._deadline):
            requests.holding = holding

    async def _fetch_odd(self, latest: dict[Instruction, Outcome]) -> None:
        """Ask for vectors themselves that had another form than the rows, where they are needed.

        None is needed that is far larger than most were before, unless most are now.
        """
        odd = [task for task, outcome in latest.items() if self._is_odd(task, outcome.value)]
        steps = sum(isinstance(task, HalfStep) for task in latest)
        if 2 * sum(isinstance(task, HalfStep) for task in odd) > steps:
            self._requests.most = None
        elif self._requests.holding is None:
            return
        again = await self.delivery.outcomes(odd, self._requests.again, self._requests.shown)
        for task, (outcome,) in again.items():
            if self._requests.holding is not None:
                outcome = replace(outcome, value=_digest(outcome.value))
            latest[task] = outcome

    def _is_odd(self, task: Instruction, answer: Any) -> bool:
        if not isinstance(answer, Digest) or answer.signature is None or answer.row is not None:
            return False
        return not isinstance(task, Forge) or answer.signature in self.round.letters.forms

    async def _carry(self, tasks: Sequence[Instruction]) -> None:
        """Send what these instructions need along the edges, where contexts carry it."""
        if self._carrier is None:
            return
        letters = self.round.letters
        edges: dict[tuple[int, int], Any] = {}
        for task in tasks:
            if not isinstance(task, HalfStep):
                senders = self.round.heard(task.node) if isinstance(task, Forge) else task.senders
                ways = ((j, task.node) for j in senders)
                edges.update(zip(ways, letters.vectors(senders, task.node), strict=True))
        arrived = self._requests.arrived = self._requests.arrived or {}
        for edge, came in (await self._carrier.carry(self.round.number, edges, self._deadline)).items():
            if came.error is None:
                arrived[edge] = came.value
            else:
                letters.undelivered(*edge, came.error)

    def _vectors(
        self, tasks: Iterable[Instruction], latest: Mapping[Instruction, Outcome]
    ) -> dict[Instruction, Answered]:
        """Return what came of what is for a vector."""
        came = {task: self._taken(task, latest[task]) for task in tasks if not isinstance(task, Aggregate)}
        return dict(zip(came, measured(list(came.values())), strict=True))

    def _taken(self, task: HalfStep | Forge, outcome: Outcome) -> Outcome | Kept:
        if self._requests.holding is None or self._is_odd(task, outcome.value):  # too large to be fetched
            return outcome
        return Kept(outcome.value, outcome.error, outcome.said)

    def _mixes(
        self,
        tasks: Iterable[Instruction],
        outcomes: Mapping[Instruction, Sequence[Outcome]],
        latest: Mapping[Instruction, Outcome],
    ) -> dict[Instruction, Answered]:
        """Return how aggregating went; what nodes then tell of their parameters is for the report only."""
        ended: dict[Instruction, Answered] = {}
        told: dict[int, Answered] = {}
        for task in tasks:
            if not isinstance(task, Aggregate):
                continue
            ended[task] = _DONE
            if (queue := outcomes.get(task)) is None:
                continue
            self._requests.learn(task.node, queue)
            tells = self._requests.tells(task.node)
            failed = _failed(queue[:-1] if tells else queue) if errors_of(queue) else None
            if failed is None and tells:
                out = latest[task]
                told[task.node] = out if self._requests.holding is None else Kept(out.value, out.error)
            elif failed and isinstance(failed.error, AttributeError) and failed.error.name == AGGREGATE:
                self.peers.unlearn(task.node, AGGREGATE)
            elif failed:
                ended[task] = failed
        rows = zip(told, map(_row, measured(list(told.values()))), strict=True)
        self._mixed |= {node: row for node, row in rows if row is not None}
        return ended

    async def _spread(self, vectors: Iterable[Any]) -> float | None:
        """Consensus distance, or None where there is nothing to compare or no one form."""
        rows = list(vectors)
        if len({tuple(row.shape) for row in rows}) != 1:
            return None
        holding = self._requests.holding
        return consensus_distance(rows) if holding is None else await holding.spread(rows)

    def _moved(self) -> int:
        """Bytes that crossed a process boundary: what nodes sent, what they got, what they told."""
        came = sum(size for (i, _), size in self.round.letters.sizes.items() if not self.peers.is_here(i))
        told = sum(int(theta.nbytes) for i, theta in self._mixed.items() if not self.peers.is_here(i))
        return came + self._requests.bytes_sent + told


def _failed(outcomes: Iterable[Outcome]) -> Outcome | None:
    return next((out for out in outcomes if out.error is not None), None)


def _row(came: Answered) -> Any:
    """Return the vector that came, or what stands for it; None if it is none."""
    if came.error is not None:
        return None
    digest: Digest = came.value if isinstance(came, Kept) else digest_of(came.value)
    return digest.row


def _digest(vector: Any) -> Digest:
    digest = digest_of(vector)
    return digest if digest.row is None else Digest(digest.signature, norm_of(digest.row), digest.row)
