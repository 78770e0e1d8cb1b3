"""From instructions to calls: what each node is asked, told and shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.actor.stack import Stack
from byzflow.engine.actor.sweeps import Sweep, shares
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
from byzflow.engine.rounds.picks import picked, placed
from byzflow.engine.rounds.showing import resolved

__all__ = ("Requests",)

Queues = dict[Instruction, Sequence[Call]]
"""The calls of instructions, in order."""

Plan = tuple[Sequence[Instruction], Sequence[Sweep]]
"""Instructions, and sweeps of which each of them has its share."""

_ORDER = (SET_NEIGHBORS, SET_MIXING, SET_SEED, AGGREGATE, PARAMETERS)
"""What a node is told and asked, one after another, when it aggregates."""


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
        self._lists: dict[tuple[int, ...], Sequence[Any] | Stack] = {}
        self._heard: dict[int, tuple[Mapping[int | None, Any], Any]] = {}
        self._informed: set[int] = set()

    def calls(self, tasks: Iterable[Instruction]) -> Queues:
        """Return the calls of instructions; the vectors they give stay where they are made, if they can.

        An instruction that needs none is left out.
        """
        return self._queues(tasks, self.holding)

    def probes(self, tasks: Iterable[Instruction]) -> Queues:
        """Return the calls for half steps, for what is known of the vectors only."""
        steps = [task for task in tasks if isinstance(task, HalfStep)]
        return dict(zip(steps, shares([self._peers.held(self._step(steps), None)]), strict=True))

    def again(self, tasks: Iterable[Instruction]) -> Queues:
        """Return the calls for the vectors themselves that the last calls of instructions were about."""
        return {task: queue[-1:] for task, queue in self._queues(tasks, None).items()}

    def shown(self, tasks: Iterable[Instruction]) -> list[Any]:
        """Return the vectors that may be in the calls of instructions."""
        if all(type(task) is HalfStep for task in tasks):
            return []
        stacks = [shown.matrix for shown in self._lists.values() if isinstance(shown, Stack)]
        return [*self._round.letters.everything, *(self.arrived or {}).values(), *stacks]

    def tells(self, node: int) -> bool:
        """Whether a node is asked for its parameters after it has mixed."""
        return self._peers.can(node, AGGREGATE) and self._peers.can(node, PARAMETERS)

    def needs_template(self, tasks: Iterable[Instruction]) -> bool:
        """Whether there is a liar that hears nobody, and is to be told what vectors look like."""
        return any(
            not self._round.heard(node) for node in {task.node for task in tasks if type(task) is Forge}
        )

    def learn(self, node: int, outcomes: Sequence[Outcome]) -> None:
        """Note whether a node wants to be told whom it hears in every round, as it answers when it is."""
        if node in self._informed and outcomes[0].error is None and outcomes[0].value is False:
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

    def _queues(self, tasks: Iterable[Instruction], holding: Holding | None) -> Queues:
        kinds: dict[type, list[Any]] = {HalfStep: [], Forge: [], Aggregate: []}
        for task in tasks:
            kinds[type(task)].append(task)
        plans = [*self._half_steps(kinds[HalfStep], holding), *self._forgeries(kinds[Forge], holding)]
        plans += self._aggregations(kinds[Aggregate], holding)
        return {
            task: share for group, sweeps in plans for task, share in zip(group, shares(sweeps), strict=True)
        }

    def _half_steps(self, tasks: Sequence[HalfStep], holding: Holding | None) -> Iterator[Plan]:
        if not tasks:
            return
        sweep = self._step(tasks)
        if holding is not None:
            sweep = self._peers.held(sweep, holding.places([node for (node,) in tasks]))
        yield tasks, [sweep]

    def _step(self, tasks: Iterable[HalfStep]) -> Sweep:
        nodes = [node for (node,) in tasks]
        return self._peers.asks(nodes, self._round.number, STEP, (self._lr,), most=self.most)

    def _forgeries(self, tasks: Sequence[Forge], holding: Holding | None) -> Iterator[Plan]:
        for method in (BROADCAST, FORGE):
            group = [task for task in tasks if (task.receiver is None) == (method == BROADCAST)]
            if not group:
                continue
            each: dict[str, Any] = {"kwargs": [self._shown_to(task) for task in group]}
            if method == FORGE:
                each["args"] = [(receiver,) for _, receiver in group]
                each["purpose"] = [f"{FORGE}-{receiver}" for _, receiver in group]
            nodes = [node for node, _ in group]
            for node in dict.fromkeys(nodes):
                self._sent(node, list(self._hears(node)[0].values()))
            sweep = self._peers.asks(nodes, self._round.number, method, each=each, most=self.most)
            if holding is not None:
                receivers = [receiver for _, receiver in group]
                sweep = self._peers.held(sweep, holding.places(nodes, receivers))
            yield group, [sweep]

    def _shown_to(self, task: Forge) -> dict[str, Any]:
        """Return what a Byzantine node is shown; it gets copies."""
        heard, shown = self._hears(task.node)
        return {"neighbor_vectors": shown, "like": heard.get(task.receiver, next(iter(heard.values())))}

    def _hears(self, node: int) -> tuple[Mapping[int | None, Any], Any]:
        """Return what a Byzantine node hears, by sender, and as it is shown for each of its receivers."""
        if node not in self._heard:
            came = self._reached(node, self._round.heard(node))
            heard: dict[int | None, Any] = dict(zip(*came, strict=True))
            if not heard:
                heard = {node: resolved(next(iter(self._round.half_steps.values()))) * 0}
            vectors = list(heard.values())
            key = tuple(map(id, vectors))
            if key not in self._lists:  # several may hear the same
                self._lists[key] = placed(vectors)
            self._heard[node] = heard, self._lists[key]
        return self._heard[node]

    def _aggregations(self, tasks: Sequence[Aggregate], holding: Holding | None) -> Iterator[Plan]:
        """Yield instructions for nodes that want to be told the same before they aggregate, and the calls."""
        groups: dict[tuple[str, ...], list[tuple[Aggregate, Sequence[int], list[Any]]]] = {}
        for task in tasks:
            reached = self._reached(*task)
            if wants := self._wants(task.node, len(reached[0])):
                groups.setdefault(wants, []).append((task, *reached))
        for wants, members in groups.items():
            plan = [self._told(method, members, holding) for method in wants]
            yield [task for task, _, _ in members], plan

    def _wants(self, node: int, heard: int) -> tuple[str, ...]:
        """Return the methods of a node that are called in turn: nothing, or what it has of those."""
        can = self._peers.methods(node)
        if AGGREGATE not in can:
            return ()
        hears_all = heard == len(self._round.topology.in_neighbors(node))
        is_wanted = {
            SET_NEIGHBORS: not (hears_all and node in self._peers.incurious),
            SET_MIXING: self._mixing is not None,
            SET_SEED: self._seed is not None,
        }
        return tuple(method for method in _ORDER if method in can and is_wanted.get(method, True))

    def _told(
        self,
        method: str,
        members: Sequence[tuple[Aggregate, Sequence[int], list[Any]]],
        holding: Holding | None,
    ) -> Sweep:
        """Return the calls of one of the methods that nodes want to be called."""
        peers, number = self._peers, self._round.number
        nodes = [task.node for task, _, _ in members]
        if method == PARAMETERS:
            if holding is None:
                return peers.tells(nodes, number, method, self.most)
            return peers.leaves(nodes, number, method, holding.mixed(nodes))
        told = {
            AGGREGATE: self._vectors_of,
            SET_NEIGHBORS: self._neighbors_of,
            SET_MIXING: self._weights_of,
            SET_SEED: self._seed_of,
        }[method]
        args = [told(task.node, came, vectors) for task, came, vectors in members]
        if method != AGGREGATE:
            return peers.asks(nodes, number, method, each={"args": args})
        return peers.asks(nodes, number, method, each={"args": picked(args)}, most=0)

    def _vectors_of(self, node: int, came: Sequence[int], vectors: list[Any]) -> tuple[Any, ...]:
        own = self._round.letters.vector(node)
        self._sent(node, [own, *vectors])
        return own, vectors

    def _neighbors_of(self, node: int, came: Sequence[int], vectors: list[Any]) -> tuple[Any, ...]:
        expected = self._round.topology.in_neighbors(node)
        self._informed.add(node)
        return node, expected, tuple(sorted({*expected} - {*came}))

    def _weights_of(self, node: int, came: Sequence[int], vectors: list[Any]) -> tuple[Any, ...]:
        """Mixing weights of the own row and of those that came; the own row takes those of the missing."""
        assert self._mixing is not None
        topology = self._round.topology
        weights = local_weights(topology, node, self._mixing)[1:].tolist()
        known = dict(zip(topology.in_neighbors(node), weights, strict=True))
        return (own_first([known[j] for j in came]),)

    def _seed_of(self, node: int, came: Sequence[int], vectors: list[Any]) -> tuple[Any, ...]:
        assert self._seed is not None
        return (torch_seed(self._seed, node, self._round.number, "rule"),)

    def _sent(self, node: int, vectors: Sequence[Any]) -> None:
        if not self._peers.is_here(node):
            known = self._parcels.setdefault(self._peers.roster.seat(node).host, {})
            known.update(zip(map(id, vectors), vectors, strict=True))
