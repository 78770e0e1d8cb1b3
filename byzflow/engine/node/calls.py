"""Call many nodes at once: grouped by host, with a deadline, every outcome accounted for.

The one place where parameter server and peer-to-peer rounds reach their nodes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.node.arena import RowRef
from byzflow.engine.node.seats import Host, LocalHost, Seat, is_remote
from byzflow.exceptions import NodeLostError

__all__ = ("Ask", "Roster", "by_host", "on_host")


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
    purpose: str | None = None
    save: bool = False
    held: bool = False
    place: RowRef | None = None

    def call(self, seat: Seat, round: int) -> Call:
        """Return the call for one node."""
        options: dict[str, Any] = {"purpose": self.purpose, "save": self.save}
        if self.held:
            options["place"] = self.place
        method = "resident_hold" if self.held else "resident_call"
        return Call(seat.object_id, method, (round, self.method, self.args), options)


def by_host(seats: Mapping[int, Seat]) -> list[tuple[Host, tuple[int, ...]]]:
    """Group node indices by host; hosts in the order of their first node.

    Examples
    --------
    >>> here, there = LocalHost(), LocalHost()
    >>> seats = {0: Seat(here, "a"), 1: Seat(there, "b"), 2: Seat(here, "c")}
    >>> [indices for _, indices in by_host(seats)]
    [(0, 2), (1,)]
    """
    groups: dict[int, tuple[Host, list[int]]] = {}
    for index in sorted(seats):
        groups.setdefault(id(seats[index].host), (seats[index].host, []))[1].append(index)
    return [(host, tuple(indices)) for host, indices in groups.values()]


class Roster:
    """The nodes of a run by index, and how to reach them.

    Parameters
    ----------
    nodes : sequence
        Handles of spawned nodes, or plain objects, in node order.

    Examples
    --------
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
        self.local = LocalHost()
        self._here = {
            index: self.local.seat(node) for index, node in enumerate(self.nodes) if _place(node) is None
        }

    def seat(self, index: int) -> Seat:
        """Return where a node sits now."""
        return self._here.get(index) or Seat(*_placed(self.nodes[index]))

    async def respawn(self, index: int) -> None:
        """Make a spawned node anew, as it was first made, on a live worker.

        Raises
        ------
        NodeLostError
            If there is none, or the new one goes too.
        """
        await self.nodes[index]._respawn()

    def close(self) -> None:
        """End the threads of the nodes in this process."""
        self.local.close()

    def hosts(self) -> list[tuple[Host, tuple[int, ...]]]:
        """Return all hosts with the indices of their nodes."""
        return by_host({index: self.seat(index) for index in range(len(self.nodes))})

    def lost(self) -> set[int]:
        """Return the nodes whose worker is known to be gone."""
        return {i for i in range(len(self.nodes)) if getattr(self.seat(i).host, "lost", False)}

    def shares_memory(self, index: int) -> bool:
        """Whether a node is in this very process, so that what it is given does not travel."""
        host = self.seat(index).host
        if host is self.local:
            return not is_remote(self.nodes[index])
        return getattr(host, "address", "").startswith("inproc://")

    def crossing(self, indices: Iterable[int]) -> tuple[int, int]:
        """Return how many of these nodes, and of their hosts, are in other processes."""
        hosts = [self.seat(index).host for index in indices]
        away = [
            id(host) for host in hosts if not getattr(host, "address", "inproc://").startswith("inproc://")
        ]
        return len(away), len(set(away))

    async def ask(
        self, round: int, asks: Mapping[int, Ask | Sequence[tuple[int, Ask]]], deadline: float | None
    ) -> dict[int, Outcome]:
        """Call nodes for a round, one rpc for each host.

        Parameters
        ----------
        round : int
            Number of the round.
        asks : mapping of int to Ask, or to sequence of (int, Ask)
            What to call by node index; or several calls in order, each with a round of its own, of which
            the last one's outcome counts, or the first error.
        deadline : float or None
            Seconds until a call counts as late.
        """
        queues = {i: [(round, ask)] if isinstance(ask, Ask) else list(ask) for i, ask in asks.items()}
        calls = {i: [ask.call(self.seat(i), number) for number, ask in queue] for i, queue in queues.items()}
        return await self.call(calls, deadline)

    async def call(self, calls: Mapping[int, Sequence[Call]], deadline: float | None) -> dict[int, Outcome]:
        """Run the calls of each node in order; return its last outcome, or its first error."""
        groups = by_host({index: self.seat(index) for index in calls})
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    (indices, tasks.create_task(on_host(host, [calls[i] for i in indices], deadline)))
                    for host, indices in groups
                ]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        merged: dict[int, Outcome] = {}
        for indices, task in running:
            merged.update(zip(indices, map(_summary, task.result()), strict=True))
        return {index: merged[index] for index in sorted(merged)}


async def on_host(
    host: Host, queues: Sequence[Sequence[Call]], deadline: float | None
) -> list[list[Outcome]]:
    """Run queues of calls on one host with one rpc; return the outcomes of each queue.

    If the host is gone or says nothing in time, that is the outcome of all. What a node itself raises never
    looks like that.
    """
    begin = time.perf_counter()
    try:
        outcomes = iter(await host.call_many([call for queue in queues for call in queue], deadline))
    except (NodeLostError, TimeoutError) as error:
        failed = Outcome(error=error, seconds=time.perf_counter() - begin)
        return [[failed] * len(queue) for queue in queues]
    return [[_of_node(next(outcomes)) for _ in queue] for queue in queues]


def _of_node(outcome: Outcome) -> Outcome:
    if not issubclass(type(outcome.error), NodeLostError):
        return outcome
    text = "the node raised a NodeLostError; its own worker is there"
    return replace(outcome, error=RuntimeError(text), said=text)


def _summary(outcomes: Sequence[Outcome]) -> Outcome:
    failed = next((outcome for outcome in outcomes if outcome.error is not None), None)
    return failed or outcomes[-1]


def _place(node: Any) -> tuple[Host, str] | None:
    """Return the host and id of a spawned node, or None for any other object."""
    found = getattr(node, "_place", None) if is_remote(node) else None
    return found() if callable(found) else None


def _placed(node: Any) -> tuple[Host, str]:
    place = _place(node)
    if place is None:
        raise NodeLostError("A round needs every node on its host; this one was closed. Spawn it again.")
    return place
