"""The nodes of a peer-to-peer run: what each of them can do, and how an instruction becomes a call."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from byzflow.engine.actor.base import ActorRef
from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.actor.sweeps import Sweep
from byzflow.engine.node.actors import NodeActor
from byzflow.engine.rounds.arena import RowRef
from byzflow.engine.rounds.calls import Roster, on_host
from byzflow.engine.rounds.duties import distinct, lacks, made
from byzflow.engine.rounds.outcomes import errors_of, unreached
from byzflow.engine.rounds.patience import Patience
from byzflow.engine.rounds.seats import Seat, by_host, is_remote
from byzflow.engine.rounds.suspects import Send
from byzflow.exceptions import DeadlineError, NodeLostError

__all__ = (
    "AGGREGATE",
    "BROADCAST",
    "FORGE",
    "PARAMETERS",
    "RULES",
    "SET_MIXING",
    "SET_NEIGHBORS",
    "SET_SEED",
    "STEP",
    "Peers",
)

STEP, AGGREGATE, PARAMETERS = "p2p_half_step", "p2p_aggregate_and_set", "get_param_vector"
BROADCAST, FORGE, RULES = "p2p_broadcast_vector", "p2p_vector_for", "p2p_rules"
SET_MIXING, SET_NEIGHBORS, SET_SEED = "p2p_set_mixing", "p2p_set_neighbors", "p2p_set_seed"

Key = TypeVar("Key", bound=Hashable)


class Peers:
    """All nodes by index, honest first, wherever they live.

    Parameters
    ----------
    honest, byzantine : sequence
        Handles of spawned nodes, or plain objects.

    Attributes
    ----------
    send : callable
        Takes calls to a host, as `on_host` does.
    incurious : set of int
        Nodes that need not be told whom they hear where nobody is missing.
    number : int
        The round under way.
    behind : dict of int to sequence of Call
        What nodes that were made anew have to go through before anything else.

    Examples
    --------
    >>> from byzflow.engine.actor.sweeps import shares
    >>> class Node:
    ...     def p2p_half_step(self, lr):
    ...         return lr
    >>> peers = Peers([Node()], [])
    >>> asyncio.run(peers.learn(deadline=5.0))
    {}
    >>> peers.can(0, "p2p_half_step"), peers.can(0, "p2p_aggregate_and_set")
    (True, False)
    >>> (queue,) = shares([peers.asks([0], 0, "p2p_half_step", (0.5,))])
    >>> outcomes = asyncio.run(peers.call({"any key": (0, queue)}, 5.0))
    >>> outcomes["any key"][0].value
    0.5
    """

    def __init__(self, honest: Sequence[Any], byzantine: Sequence[Any]) -> None:
        self.n_honest = len(honest)
        made((*honest, *byzantine))
        distinct(honest, byzantine)
        self.roster = Roster([*honest, *byzantine])
        self._skills: dict[int, frozenset[str]] = {}
        self.gone: dict[int, Outcome] = {}
        self.send: Send = on_host
        self.incurious: set[int] = set()
        self.behind: dict[int, Sequence[Call]] = {}
        self.number = -1
        self._patience = Patience(self.roster)
        self._here: dict[int, bool] = {}
        for index, node in enumerate(self.roster.nodes):
            if _is_proxy(node):
                self._skills[index] = frozenset((STEP, AGGREGATE) if index < self.n_honest else (BROADCAST,))
            elif not is_remote(node):
                self._note(index, (name for name in _METHODS if callable(getattr(node, name, None))))

    def __len__(self) -> int:
        return len(self.roster.nodes)

    @property
    def absent(self) -> set[int]:
        """Nodes that have not answered the last time they were asked."""
        return {*self._patience.late, *self.roster.silent(), *self.gone}

    def methods(self, index: int) -> frozenset[str]:
        """Return the methods of rounds that a node has."""
        return self._skills[index]

    def can(self, index: int, method: str) -> bool:
        """Whether a node has a method."""
        return method in self._skills[index]

    def unlearn(self, index: int, method: str) -> None:
        """Note that a node has turned out not to have a method."""
        self._skills[index] -= {method}

    async def learn(self, deadline: float | None) -> dict[int, Outcome]:
        """Find out which methods the spawned nodes have, with one rpc for each host.

        Returns
        -------
        dict of int to Outcome
            The nodes that went with their worker.

        Raises
        ------
        TypeError
            If a node lacks what every honest, or every Byzantine, node must have.
        """
        unknown = [index for index in range(len(self)) if index not in self._skills]
        asks = {i: (i, [self.read(i, "resident_methods", _METHODS)]) for i in unknown}
        lost: dict[int, Outcome] = {}
        for index, (outcome,) in (await self.call(asks, deadline)).items():
            if isinstance(outcome.error, NodeLostError):
                lost[index] = outcome
            else:
                self._note(index, outcome.unwrap())
        return lost

    def asks(
        self,
        nodes: Sequence[int],
        number: int,
        method: str,
        args: tuple[Any, ...] = (),
        *,
        each: Mapping[str, Sequence[Any]] | None = None,
        most: int | None = None,
    ) -> Sweep:
        """Return the calls of a method of nodes for a round: asked twice, a node answers twice and acts once.

        Parameters
        ----------
        nodes : sequence of int
            Whom to ask.
        number : int
            Number of the round.
        method : str
            Name of the nodes' method.
        args : tuple, optional
            What all are given.
        most : int, optional
            Of a vector of more bytes the answer is what is known of it.
        each : mapping of str to sequence, optional
            For each node, in place of what all are given: ``args``, ``kwargs``, ``purpose``.
        """
        common = {"run": self.roster.run, "most": most, "own": True} | ({} if each else {"args": args})
        return Sweep(self._ids(nodes), "resident_call", (number, method), each, common)

    def held(self, asks: Sweep, places: Sequence[RowRef] | None) -> Sweep:
        """Return calls of `asks` for the digests of the vectors, which go into rows, if there are any."""
        each = asks.each if places is None else {**asks.each, "place": places}
        kwargs = {name: value for name, value in asks.kwargs.items() if name not in ("most", "own")}
        return Sweep(asks.object_ids, "resident_hold", asks.args, each, kwargs)

    def tells(self, nodes: Sequence[int], number: int, method: str, most: int | None = None) -> Sweep:
        """Return the calls of a method of nodes that changes nothing; `most` as in `asks`."""
        return Sweep(self._ids(nodes), "resident_tell", (number, method, most))

    def leaves(self, nodes: Sequence[int], number: int, method: str, places: Sequence[RowRef]) -> Sweep:
        """Return the calls of a method that changes nothing, the vectors of which go into rows."""
        return Sweep(self._ids(nodes), "resident_read", (number, method), {"place": places})

    def read(self, index: int, method: str, *args: Any) -> Call:
        """Return the call of a resident's method that changes nothing."""
        return Call(self.roster.seat(index).object_id, method, args)

    def _ids(self, nodes: Iterable[int]) -> list[str]:
        return [self.roster.seat(index).object_id for index in nodes]

    def is_here(self, index: int) -> bool:
        """Whether a node lives in this process, so that what it gives and gets is passed by reference."""
        if index not in self._here:
            self._here[index] = not self.roster.is_away(index)
        return self._here[index]

    async def call(
        self, calls: Mapping[Key, tuple[int, Sequence[Call]]], deadline: float | None
    ) -> dict[Key, Sequence[Outcome]]:
        """Make the calls, one rpc for each host; return the outcomes of every key's calls.

        A node that was late last time, or whose host was silent, is waited for only as long as the others
        take; one that is gone is not called any more.

        Parameters
        ----------
        calls : mapping of key to (node index, calls)
            The calls of one node run in order, those of different nodes side by side.
        deadline : float or None
            Seconds until a call counts as late.
        """
        present: Mapping[Key, tuple[int, Sequence[Call]]] = calls
        if self.behind or self.gone:
            present = {
                key: (index, [*self.behind.get(index, ()), *queue])
                for key, (index, queue) in calls.items()
                if index not in self.gone
            }
        late = self._patience.slow(self.number)
        slow = {key: call for key, call in present.items() if call[0] in late} if late else {}
        quick = {key: call for key, call in present.items() if key not in slow} if slow else present
        outcomes, others = await self._patience.wait(
            self._call(quick, deadline),
            self._call(slow, deadline),
            {index for index, _ in slow.values()},
            alone=not quick,
        )
        behind = Outcome(error=DeadlineError("it has not answered an earlier call yet"))
        outcomes |= others or {key: [behind] * len(queue) for key, (_, queue) in slow.items()}
        self._watch(present, outcomes)
        if present is not calls:
            outcomes = {key: _latest(found, len(calls[key][1])) for key, found in outcomes.items()}
        for key in calls.keys() - present.keys():
            index, queue = calls[key]
            outcomes[key] = [self.gone[index]] * len(queue)
        return {key: outcomes[key] for key in calls}

    def _watch(
        self, calls: Mapping[Key, tuple[int, Sequence[Call]]], outcomes: Mapping[Key, Sequence[Outcome]]
    ) -> None:
        for key, (index, _) in calls.items():
            if any(isinstance(error, DeadlineError) for error in errors_of(outcomes[key])):
                self._patience.late.add(index)
            else:
                self._patience.late.discard(index)
                self.behind.pop(index, None)

    async def _call(
        self, calls: Mapping[Key, tuple[int, Sequence[Call]]], deadline: float | None
    ) -> dict[Key, Sequence[Outcome]]:
        keys = list(calls)
        seats: dict[int, Seat] = {p: self.roster.seat(calls[key][0]) for p, key in enumerate(keys)}
        groups = [
            (host, positions, [calls[keys[p]][1] for p in positions]) for host, positions in by_host(seats)
        ]
        nodes = {p: calls[key][0] for p, key in enumerate(keys)}
        deliver = self.roster.suspects.deliver
        answers = await asyncio.gather(
            *(
                deliver(self.send, host, [nodes[p] for p in at], queues, deadline)
                for host, at, queues in groups
            )
        )
        return {
            keys[p]: outcomes
            for (_, positions, _), answer in zip(groups, answers, strict=True)
            for p, outcomes in zip(positions, answer, strict=True)
        }

    def settled(self, index: int) -> None:
        """Note that a node was made anew: nothing else is known of it."""
        self._patience.late.discard(index)
        self.behind.pop(index, None)

    async def close(self) -> None:
        """Close every handle and end the threads of the nodes in this process."""
        self.roster.close()
        await NodeActor.close_many(self.roster.nodes)

    def _note(self, index: int, methods: Iterable[str]) -> None:
        skills = frozenset(_METHODS).intersection(methods)
        needed = (STEP,) if index < self.n_honest else (BROADCAST, FORGE)
        if not skills.intersection(needed):
            node = self.roster.nodes[index]
            kind = node._kind if is_remote(node) else type(node)
            raise TypeError(lacks(getattr(kind, "__name__", repr(kind)), needed[0]))
        self._skills[index] = skills


def _latest(outcomes: Sequence[Outcome], count: int) -> Sequence[Outcome]:
    """Return the last outcomes of a queue, if what came before them was gone through."""
    before = outcomes[: len(outcomes) - count]
    found = unreached(before)
    return [found] * count if found is not None else list(outcomes[len(before) :])


_METHODS = (STEP, AGGREGATE, PARAMETERS, BROADCAST, FORGE, RULES, SET_MIXING, SET_NEIGHBORS, SET_SEED)


def _is_proxy(node: Any) -> bool:
    """Whether a node stands for another one that cannot be asked what it can do."""
    return isinstance(node, ActorRef)
