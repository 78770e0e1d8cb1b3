"""From instructions to calls: what each node is asked, told and shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.node.streams import torch_seed
from byzflow.engine.peer_to_peer.holding import Holding
from byzflow.engine.peer_to_peer.messages import Aggregate, Forge, HalfStep, Instruction
from byzflow.engine.peer_to_peer.peers import (
    AGGREGATE,
    BROADCAST,
    FORGE,
    PARAMETERS,
    SET_MIXING,
    SET_NEIGHBORS,
    SET_SEED,
    STEP,
    Peers,
)
from byzflow.engine.peer_to_peer.protocol import PeerRound
from byzflow.engine.peer_to_peer.weights import Scheme, local_weights, own_first
from byzflow.engine.rounds.showing import resolved

__all__ = ("Requests",)


class Requests:
    """The calls of one round.

    Parameters
    ----------
    round : PeerRound
        What is known of the round.
    peers : Peers
        Who is called.
    lr : float
        Step length.
    mixing : {"uniform", "metropolis"}, optional
        Weights to tell the nodes that want to know them.
    seed : int, optional
        Seed of the run, from which each node that wants one gets a seed for this round.

    Attributes
    ----------
    holding : Holding or None
        Where vectors stay; without it they come with the answers.
    most : int or None
        Bytes of the largest vector that is fetched.
    arrived : dict of (sender, receiver) to vector, or None
        What was carried along the edges, if that is how vectors travel.
    """

    def __init__(
        self,
        round: PeerRound,
        peers: Peers,
        *,
        lr: float,
        mixing: Scheme | None = None,
        seed: int | None = None,
    ) -> None:
        self._round, self._peers = round, peers
        self._lr, self._mixing, self._seed = lr, mixing, seed
        self.holding: Holding | None = None
        self.most: int | None = None
        self.arrived: dict[tuple[int, int], Any] | None = None
        self._parcels: dict[object, dict[int, Any]] = {}
        self._told: set[int] = set()
        self._step: Call | None = None

    def calls(self, task: Instruction) -> list[Call]:
        """Return the calls of an instruction; the vectors they give stay where they are made, if they can."""
        holding, calls = self.holding, self.plain(task)
        if holding is None or not calls:
            return calls
        match task:
            case HalfStep(node):
                return [self._peers.held(calls[0], holding.place(node))]
            case Forge(node, receiver):
                return [self._peers.held(calls[0], holding.place(node, receiver))]
            case Aggregate(node) if self.tells(node):
                told = self._peers.read_held(node, self._round.number, PARAMETERS, holding.mixed(node))
                return [*calls[:-1], told]
        return calls

    def probes(self, task: Instruction) -> list[Call]:
        """Return the calls of an instruction, for what is known of the vectors only."""
        return [self._peers.held(call, None) for call in self.plain(task)]

    def again(self, task: Instruction) -> list[Call]:
        """Return the call for the vector itself that an instruction's last call was about."""
        return self.plain(task)[-1:]

    def plain(self, task: Instruction) -> list[Call]:
        """Return the calls of an instruction that give vectors as they are."""
        number = self._round.number
        match task:
            case HalfStep(node):
                if self._step is None or self._step.args[-1] != self.most:
                    self._step = self._peers.ask(node, number, STEP, self._lr, most=self.most)
                return [self._peers.alike(node, self._step)]
            case Forge(node, receiver):
                return [self._forge(node, receiver)]
            case Aggregate(node, senders):
                return self._aggregate(node, senders) if self._peers.can(node, AGGREGATE) else []

    def shown(self, task: Instruction) -> list[Any]:
        """Return the vectors that an instruction's calls hold."""
        match task:
            case HalfStep():
                return []
            case Forge(node):
                return self._reached(node, self._round.heard(node))[1]
            case Aggregate(node, senders):
                return [self._round.letters.vector(node), *self._reached(node, senders)[1]]

    def tells(self, node: int) -> bool:
        """Whether a node is asked for its parameters after it has mixed."""
        return self._peers.can(node, AGGREGATE) and self._peers.can(node, PARAMETERS)

    def needs_template(self, task: Instruction) -> bool:
        """Whether a liar that hears nobody is to be told what vectors look like."""
        return isinstance(task, Forge) and not self._round.heard(task.node)

    def learn(self, node: int, outcomes: Sequence[Outcome]) -> None:
        """Note whether a node wants to be told whom it hears in every round, as it answers when it is."""
        if node in self._told and outcomes[0].error is None and outcomes[0].value is False:
            self._peers.incurious.add(node)

    @property
    def bytes_sent(self) -> int:
        """Bytes of the vectors in these calls that went to other processes: each once for each host."""
        return sum(int(vector.nbytes) for known in self._parcels.values() for vector in known.values())

    def _reached(self, node: int, senders: Sequence[int]) -> tuple[Sequence[int], list[Any]]:
        """Return the senders whose vector has reached a node, and those vectors."""
        if self.arrived is None:
            return senders, self._round.letters.vectors(senders, node)
        came = [j for j in senders if (j, node) in self.arrived]
        return came, [self.arrived[j, node] for j in came]

    def _forge(self, node: int, receiver: int | None) -> Call:
        number = self._round.number
        heard = dict(zip(*self._reached(node, self._round.heard(node)), strict=True))  # it is shown copies
        vectors = list(heard.values()) or [resolved(next(iter(self._round.half_steps.values()))) * 0]
        like = vectors[0] if receiver is None else heard.get(receiver, vectors[0])
        self._sent(node, vectors)
        shown = {"neighbor_vectors": vectors, "like": like}
        if receiver is None:
            return self._peers.ask(node, number, BROADCAST, most=self.most, **shown)
        purpose = f"{FORGE}-{receiver}"
        return self._peers.ask(node, number, FORGE, receiver, purpose=purpose, most=self.most, **shown)

    def _aggregate(self, node: int, senders: Sequence[int]) -> list[Call]:
        number, peers, calls = self._round.number, self._peers, []
        came, vectors = self._reached(node, senders)
        expected = self._round.topology.in_neighbors(node)
        everybody = len(came) == len(expected)
        if peers.can(node, SET_NEIGHBORS) and not (everybody and node in peers.incurious):
            missing = () if everybody else tuple(sorted({*expected} - {*came}))
            calls.append(peers.ask(node, number, SET_NEIGHBORS, node, expected, missing))
            self._told.add(node)
        if self._mixing is not None and peers.can(node, SET_MIXING):
            weights = self._weights(node, came, self._mixing)
            calls.append(peers.ask(node, number, SET_MIXING, weights))
        if self._seed is not None and peers.can(node, SET_SEED):
            calls.append(peers.ask(node, number, SET_SEED, torch_seed(self._seed, node, number, "rule")))
        own = self._round.letters.vector(node)
        self._sent(node, [own, *vectors])
        calls.append(peers.ask(node, number, AGGREGATE, own, vectors, most=0))
        return [*calls, peers.tell(node, number, PARAMETERS, self.most)] if self.tells(node) else calls

    def _weights(self, node: int, senders: Sequence[int], scheme: Scheme) -> tuple[float, ...]:
        """Mixing weights of the own row and of the senders; the own row takes those of the missing."""
        topology = self._round.topology
        shares = local_weights(topology, node, scheme)[1:].tolist()
        w = dict(zip(topology.in_neighbors(node), shares, strict=True))
        return own_first([w[j] for j in senders])

    def _sent(self, node: int, vectors: Sequence[Any]) -> None:
        if not self._peers.is_here(node):
            known = self._parcels.setdefault(self._peers.roster.seat(node).host, {})
            known.update(zip(map(id, vectors), vectors, strict=True))
