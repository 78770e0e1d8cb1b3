"""Call many nodes at once, grouped by host: the one place where rounds of both kinds reach their nodes."""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.calls import Call, Outcome, late
from byzflow.engine.actor.columns import Columns
from byzflow.engine.actor.sweeps import Sweep, joined
from byzflow.engine.rounds.arena import RowRef
from byzflow.engine.rounds.attributes import State
from byzflow.engine.rounds.memo import UPDATE
from byzflow.engine.rounds.moving import Move
from byzflow.engine.rounds.outcomes import NodeOutcomes, Replies, unreached
from byzflow.engine.rounds.repeat import sent
from byzflow.engine.rounds.resident import ASKED
from byzflow.engine.rounds.seats import Host, LocalHost, Seat, by_host, finder, is_away, is_remote, place_of
from byzflow.engine.rounds.suspects import Suspects
from byzflow.exceptions import DeadlineError, NodeLostError
from byzflow.operators.together import together

__all__ = ("Ask", "Roster", "on_host")


@dataclass(frozen=True, slots=True)
class Ask:
    """A method to call on one node for a round; see `Resident.resident_call` and `resident_hold`.

    Examples
    --------
    >>> Ask("apply_server_gradient", (0.5,)).method
    'apply_server_gradient'
    """

    method: str
    args: tuple[Any, ...] = ()
    save: bool = False
    held: bool = False
    most: int | None = None
    places: Mapping[int, RowRef] = field(default_factory=dict)

    def calls(self, indices: Sequence[int], object_ids: Sequence[str], round: int, run: str) -> Sweep:
        """Return the same call for many nodes of one host; a vector that is held goes to the node's place."""
        each = {"place": [self.places[index] for index in indices]} if self.held and self.places else None
        method = "resident_hold" if self.held else "resident_call"
        args = (round, self.method, self.args, None, None, self.save, run)  # quicker than by name
        return Sweep(object_ids, method, args if self.held else (*args, self.most), each=each)


class Roster:
    """The nodes of a run by index, and how to reach them.

    Parameters
    ----------
    nodes : sequence
        Handles of spawned nodes, or plain objects, in node order.

    Attributes
    ----------
    run : str
        Name of the run, as nodes may be in several.
    suspects : Suspects
        Nodes whose worker was lost in this round.

    Examples
    --------
    >>> import asyncio
    >>> class Node:
    ...     def double(self, x):
    ...         return 2 * x
    >>> roster = Roster([Node(), Node()])
    >>> outcomes = asyncio.run(roster.ask(0, {1: Ask("double", (21,))}, deadline=5.0))
    >>> outcomes[1].value
    42
    """

    def __init__(self, nodes: Sequence[Any]) -> None:
        self.nodes = tuple(nodes)
        self.run = uuid4().hex
        self.local = LocalHost()
        self.suspects = Suspects()
        self._here = {
            index: self.local.seat(node) for index, node in enumerate(self.nodes) if place_of(node) is None
        }
        self._finders = [finder(node) for node in self.nodes]
        self._places: list[tuple[Host, str] | None] = []
        self._moved: object = None
        self._seated: dict[int, Seat] = {}
        self._hosts: list[tuple[Host, tuple[int, ...]]] = []
        self._ids: dict[tuple[int, ...], list[str]] = {}

    def seat(self, index: int) -> Seat:
        """Return where a node sits now."""
        seat = self._seated.get(index) or self._here.get(index) or place_of(self.nodes[index])
        if seat is None:
            raise NodeLostError("A round needs every node on its host; this one was closed. Spawn it again.")
        return seat

    def settle(self) -> None:
        """Look where all nodes sit, for what follows until the next `settle`.

        Raises
        ------
        NodeLostError
            If a node was closed.
        """
        moved = DaskActorBackend.moved
        if self._hosts and moved is self._moved:  # as in nearly every round
            return
        self._moved, places = moved, [find() for find in self._finders]
        if self._hosts and places == self._places:  # others moved
            return
        self._seated, self._hosts, self._places = {}, [], places
        self._seated = {index: self.seat(index) for index in range(len(self.nodes))}
        self._hosts = by_host(self._seated)
        self._ids = {indices: [self.seat(i).object_id for i in indices] for _, indices in self._hosts}

    def untouched(self, indices: Collection[int]) -> set[int]:
        """Return those of some spawned nodes that are as they were made; a run is about to call them."""
        return {index for index in indices if self.nodes[index]._touch()}

    def move(self, index: int, state: State | None, *, patience: float) -> Move:
        """Begin to make a spawned node anew on a live worker, as it was first made, and to give it its state.

        It is called where it was until it is seated there. If there is no worker, it waits for `patience`
        [seconds] for one.
        """
        move: Move = self.nodes[index]._move(state, patience)
        return move

    def seated(self, index: int, move: Move) -> Outcome:
        """Have a node sit where it has moved to; the outcome is that of the move, which has to be over.

        Raises
        ------
        NodeLostError, DeadlineError
            If its worker went too or said nothing, or there was none.
        """
        self._seated.pop(index, None)
        self._hosts = []
        return move.settle()

    def close(self) -> None:
        """End the threads of the nodes in this process."""
        self.local.close()

    def hosts(self) -> list[tuple[Host, tuple[int, ...]]]:
        """Return all hosts with the indices of their nodes."""
        return self._hosts or self._grouped(range(len(self.nodes)))

    def lost(self) -> set[int]:
        """Return the nodes whose worker is known to be gone."""
        return {i for i in range(len(self.nodes)) if getattr(self.seat(i).host, "lost", False)}

    def silent(self) -> set[int]:
        """Return the nodes whose worker has not answered the last calls in time."""
        hosts = [indices for host, indices in self.hosts() if getattr(host, "is_silent", False)]
        return {index for indices in hosts for index in indices}

    def shares_memory(self, index: int) -> bool:
        """Whether a node is in this very process, so that what it is given does not travel."""
        host = self.seat(index).host
        if host is self.local:
            return not is_remote(self.nodes[index])
        return getattr(host, "address", "").startswith("inproc://")

    def crossing(self, nodes: Collection[int]) -> tuple[int, int]:
        """Return how many of these nodes, and of their hosts, are in other processes."""
        away = [len(some) for host, some in self._grouped(nodes) if is_away(host)] if nodes else []
        return sum(away), len(away)

    def is_away(self, index: int) -> bool:
        """Whether a node is in another process."""
        return is_away(self.seat(index).host)

    async def ask(
        self, round: int, asks: Mapping[int, Ask | Sequence[tuple[int, Ask]]], deadline: float | None
    ) -> NodeOutcomes:
        """Call nodes for a round, one rpc for each host.

        Parameters
        ----------
        round : int
            Number of the round.
        asks : mapping of int to Ask, or to sequence of (int, Ask)
            What to call by node index; or several calls in order, each with a round of its own, of which
            the last one's outcome counts, or the first error of those of this round and of updates.
        deadline : float or None
            Seconds until a call counts as late.
        """
        groups = self._grouped(asks)
        return await self._gather(
            [(indices, self._on_host(host, indices, round, asks, deadline)) for host, indices in groups]
        )

    async def call(self, calls: Mapping[int, Sequence[Call]], deadline: float | None) -> NodeOutcomes:
        """Run the calls of each node in order; return its last outcome, or its first error."""
        groups = self._grouped(calls)
        return await self._gather(
            [
                (indices, self._last(host, indices, [calls[i] for i in indices], deadline))
                for host, indices in groups
            ]
        )

    def _grouped(self, nodes: Collection[int]) -> list[tuple[Host, tuple[int, ...]]]:
        """Group nodes by host, in node order."""
        if not self._hosts:
            return by_host({index: self.seat(index) for index in nodes})
        if len(nodes) == len(self.nodes):
            return self._hosts
        groups = [(host, tuple(i for i in indices if i in nodes)) for host, indices in self._hosts]
        return sorted(((host, some) for host, some in groups if some), key=lambda group: group[1][0])

    async def _on_host(
        self,
        host: Host,
        indices: tuple[int, ...],
        round: int,
        asks: Mapping[int, Ask | Sequence[tuple[int, Ask]]],
        deadline: float | None,
    ) -> Sequence[Outcome]:
        first = asks[indices[0]]
        trusted = self.suspects.isdisjoint(indices)
        if trusted and isinstance(first, Ask) and len({*map(id, map(asks.__getitem__, indices))}) == 1:
            ids = self._ids.get(indices) or [self.seat(i).object_id for i in indices]
            return await _answers(host, first.calls(indices, ids, round, self.run), deadline)
        queues = [[(round, ask)] if isinstance(ask, Ask) else ask for ask in map(asks.__getitem__, indices)]
        calls = [
            [ask.calls([i], [self.seat(i).object_id], at, self.run)[0] for at, ask in queue]
            for i, queue in zip(indices, queues, strict=True)
        ]
        answers = await self.suspects.deliver(on_host, host, indices, calls, deadline)
        counting = [[at == round or ask.method == UPDATE for at, ask in queue] for queue in queues]
        return [_result(answer, counts) for answer, counts in zip(answers, counting, strict=True)]

    async def _last(
        self, host: Host, indices: Sequence[int], queues: Sequence[Sequence[Call]], deadline: float | None
    ) -> list[Outcome]:
        """Run queues of calls; return the last outcome of each, or its first error."""
        answers = await self.suspects.deliver(on_host, host, indices, queues, deadline)
        return [_result(answer, [True] * len(answer)) for answer in answers]

    async def _gather(
        self, parts: Sequence[tuple[tuple[int, ...], Coroutine[Any, Any, Sequence[Outcome]]]]
    ) -> NodeOutcomes:
        answers = await together(part for _, part in parts)
        return NodeOutcomes([(indices, answer) for (indices, _), answer in zip(parts, answers, strict=True)])


def _result(outcomes: Sequence[Outcome], counts: Sequence[bool]) -> Outcome:
    """Return what a queue of calls came to: not gone through, an error that counts, or the last outcome."""
    failed = (out for out, is_ours in zip(outcomes, counts, strict=True) if is_ours and out.error is not None)
    return unreached(outcomes) or next(failed, outcomes[-1])


async def on_host(
    host: Host, queues: Sequence[Sequence[Call]], deadline: float | None
) -> list[Sequence[Outcome]]:
    """Run queues of calls on one host with one rpc; return the outcomes of each queue.

    If the host is gone or says nothing in time, that is the outcome of all. What a node itself raises never
    looks like that.
    """
    calls, places = joined(queues)
    outcomes = await _answers(host, calls, deadline)
    return [Replies(outcomes, at) for at in places]


async def _answers(host: Host, calls: Sequence[Call], deadline: float | None) -> Columns:
    try:
        outcomes = Columns.of(await sent(host, calls, deadline))
    except (NodeLostError, DeadlineError) as error:
        return Columns([None] * len(calls), dict.fromkeys(range(len(calls)), error))
    for position, raised in outcomes.errors.items():
        if issubclass(type(raised), NodeLostError):
            if isinstance(host, LocalHost) and host.is_elsewhere(calls[position].object_id):
                continue
            text = "the node raised a NodeLostError; its own worker is there"
            outcomes.errors[position], outcomes.said[position] = RuntimeError(text), text
        elif type(raised) is DeadlineError and position not in outcomes.said:  # its host gave it up
            call = calls[position]
            method = call.args[1] if call.method in ASKED else call.method
            outcomes.errors[position] = late(call, deadline, said=f"{method}()")
    return outcomes
