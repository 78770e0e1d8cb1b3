"""One round carried out: instructions become calls, wave by wave, and what came back becomes events."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.node.forms import digest_of
from byzflow.engine.node.streams import torch_seed
from byzflow.engine.peer_to_peer.carrier import Carrier
from byzflow.engine.peer_to_peer.consensus import consensus_distance
from byzflow.engine.peer_to_peer.delivery import Delivery
from byzflow.engine.peer_to_peer.letters import AGGREGATE as AGGREGATING
from byzflow.engine.peer_to_peer.letters import ATTACK, HALF_STEP, Came
from byzflow.engine.peer_to_peer.memory import PeerMemory
from byzflow.engine.peer_to_peer.messages import (
    Aggregate,
    Aggregated,
    Event,
    Forge,
    Forged,
    HalfStep,
    HalfStepTaken,
    Instruction,
)
from byzflow.engine.peer_to_peer.peers import (
    AGGREGATE,
    BROADCAST,
    FORGE,
    PARAMETERS,
    SET_MIXING,
    SET_SEED,
    STEP,
    Peers,
)
from byzflow.engine.peer_to_peer.protocol import PeerRound
from byzflow.engine.peer_to_peer.report import PeerReport
from byzflow.engine.peer_to_peer.weights import Scheme, local_weights

__all__ = ("Execution",)

_WAVES = {HalfStep: HALF_STEP, Aggregate: AGGREGATING, Forge: ATTACK}  # the last one there names the wave


class Execution:
    """The calls of one round.

    Parameters
    ----------
    round : PeerRound
        What is to be done.
    peers : Peers
        Who does it.
    lr : float
        Step length.
    deadline : float or None
        Seconds for the answers in one wave.
    mixing : {"uniform", "metropolis"}, optional
        Weights to tell the nodes that want to know them.
    seed : int, optional
        Seed of the run, from which each node that wants one gets a seed for this round.
    memory : PeerMemory, optional
        Brings lost nodes back.
    carrier : Carrier, optional
        Carries the vectors along the edges; without one they travel with the calls.
    """

    def __init__(
        self,
        round: PeerRound,
        peers: Peers,
        *,
        lr: float,
        deadline: float | None = None,
        mixing: Scheme | None = None,
        seed: int | None = None,
        memory: PeerMemory | None = None,
        carrier: Carrier | None = None,
    ) -> None:
        self.round, self.peers = round, peers
        self.delivery = Delivery(peers, memory or PeerMemory(peers, 1), round.number, deadline)
        self.lr, self.mixing, self.seed = lr, mixing, seed
        self.carrier, self._deadline = carrier, deadline
        self._arrived: dict[tuple[int, int], Any] = {}
        self._seconds: dict[str, float] = {}
        self._mixed: dict[int, Any] = {}
        self._parcels: dict[tuple[object, int], int] = {}

    async def wave(self, tasks: Sequence[Instruction]) -> list[Event]:
        """Carry out instructions side by side; return what came of them, in their order."""
        kinds = {type(task) for task in tasks}
        phase = next(name for kind, name in reversed(_WAVES.items()) if kind in kinds)
        begin = time.perf_counter()
        await self._carry(tasks)
        outcomes = await self.delivery.outcomes(tasks, self._calls, self._shown)
        self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - begin
        return [self._event(task, outcomes.get(task, [])) for task in tasks]

    def report(self) -> PeerReport:
        """Close the round."""
        letters, through = self.round.letters, self.round.through
        lonely = {
            i: step for i, step in self.round.half_steps.items() if not self.round.topology.in_neighbors(i)
        }
        known = {**lonely, **self._mixed} if self._mixed else {}
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
            spread=_spread(self.round.half_steps.values()),
            consensus_distance=_spread(known[i] for i in through if i in known),
        )

    def _calls(self, task: Instruction) -> list[Call]:
        match task:
            case HalfStep(node):
                return [self.peers.ask(node, self.round.number, STEP, self.lr)]
            case Forge(node, receiver):
                return [self._forge(node, receiver)]
            case Aggregate(node, senders):
                return self._aggregate(node, senders) if self.peers.can(node, AGGREGATE) else []

    def _shown(self, task: Instruction) -> list[Any]:
        """Return the vectors that an instruction's calls hold."""
        letters = self.round.letters
        match task:
            case HalfStep():
                return []
            case Forge(node):
                return [vector for _, vector in self._reached(node, self.round.heard(node))]
            case Aggregate(node, senders):
                return [letters.vector(node), *(vector for _, vector in self._reached(node, senders))]

    async def _carry(self, tasks: Sequence[Instruction]) -> None:
        """Send what these instructions need along the edges, where contexts carry it."""
        if self.carrier is None:
            return
        letters, edges = self.round.letters, {}
        for task in tasks:
            if not isinstance(task, HalfStep):
                senders = self.round.heard(task.node) if isinstance(task, Forge) else task.senders
                edges.update({(j, task.node): letters.vector(j, task.node) for j in senders})
        for (sender, receiver), came in (
            await self.carrier.carry(self.round.number, edges, self._deadline)
        ).items():
            if came.error is None:
                self._arrived[sender, receiver] = came.value
            else:
                letters.undelivered(sender, receiver, came.error)

    def _reached(self, node: int, senders: Sequence[int]) -> list[tuple[int, Any]]:
        """Senders whose vector has reached a node, and that vector."""
        if self.carrier is None:
            return [(j, self.round.letters.vector(j, node)) for j in senders]
        return [(j, self._arrived[j, node]) for j in senders if (j, node) in self._arrived]

    def _forge(self, node: int, receiver: int | None) -> Call:
        heard = dict(self._reached(node, self.round.heard(node)))  # a node's host hands it copies
        vectors = list(heard.values()) or [next(iter(self.round.half_steps.values())) * 0]
        like = vectors[0] if receiver is None else heard.get(receiver, vectors[0])
        self._sent(node, vectors)
        shown = {"neighbor_vectors": vectors, "like": like}
        if receiver is None:
            return self.peers.ask(node, self.round.number, BROADCAST, **shown)
        purpose = f"{FORGE}-{receiver}"
        return self.peers.ask(node, self.round.number, FORGE, receiver, purpose=purpose, **shown)

    def _aggregate(self, node: int, senders: Sequence[int]) -> list[Call]:
        number, letters, calls = self.round.number, self.round.letters, []
        reached = self._reached(node, senders)
        if self.mixing is not None and self.peers.can(node, SET_MIXING):
            calls.append(
                self.peers.ask(
                    node, number, SET_MIXING, self._weights(node, [j for j, _ in reached], self.mixing)
                )
            )
        if self.seed is not None and self.peers.can(node, SET_SEED):
            calls.append(self.peers.ask(node, number, SET_SEED, torch_seed(self.seed, node, number, "rule")))
        own, vectors = letters.vector(node), [vector for _, vector in reached]
        self._sent(node, [own, *vectors])
        calls.append(self.peers.ask(node, number, AGGREGATE, own, vectors))
        if self.peers.can(node, PARAMETERS):
            calls.append(self.peers.read(node, PARAMETERS))
        return calls

    def _weights(self, node: int, senders: Sequence[int], scheme: Scheme) -> tuple[float, ...]:
        """Mixing weights of the own row and of the senders; the own row takes those of the missing."""
        topology = self.round.topology
        shares = local_weights(topology, node, scheme)[1:].tolist()
        w = dict(zip(topology.in_neighbors(node), shares, strict=True))
        kept = [w[j] for j in senders]
        return (1 - sum(kept), *kept)

    def _event(self, task: Instruction, outcomes: Sequence[Outcome]) -> Event:
        match task:
            case HalfStep(node):
                return HalfStepTaken(node, self.peers.taken(node, outcomes[0]))
            case Forge(node, receiver):
                return Forged(node, self.peers.taken(node, outcomes[0]), receiver)
            case Aggregate(node):
                return Aggregated(node, self._finished(node, outcomes))

    def _finished(self, node: int, outcomes: Sequence[Outcome]) -> Outcome | Came:
        """Return how aggregating went; what the node then tells of its parameters is for the report only."""
        told = bool(outcomes) and self.peers.can(node, PARAMETERS)
        steps = outcomes[:-1] if told else outcomes
        failed = next((outcome for outcome in steps if outcome.error is not None), None)
        if failed and isinstance(failed.error, AttributeError) and failed.error.name == AGGREGATE:
            self.peers.unlearn(node, AGGREGATE)
            return Came()
        row = digest_of(outcomes[-1].value).row if told and failed is None else None
        if row is not None:
            self._mixed[node] = row
        return failed or Came()

    def _sent(self, node: int, vectors: Iterable[Any]) -> None:
        """Count what goes to another process: each vector once for each host."""
        if not self.peers.is_here(node):
            host = self.peers.roster.seat(node).host
            self._parcels.update({(host, id(vector)): int(vector.nbytes) for vector in vectors})

    def _moved(self) -> int:
        """Bytes that crossed a process boundary: what nodes sent, what they got, what they told."""
        came = sum(size for (i, _), size in self.round.letters.sizes.items() if not self.peers.is_here(i))
        told = sum(int(theta.nbytes) for i, theta in self._mixed.items() if not self.peers.is_here(i))
        return came + sum(self._parcels.values()) + told


def _spread(vectors: Iterable[Any]) -> float | None:
    """Consensus distance, or None where there is nothing to compare or no one form."""
    rows = list(vectors)
    return consensus_distance(rows) if len({tuple(row.shape) for row in rows}) == 1 else None
