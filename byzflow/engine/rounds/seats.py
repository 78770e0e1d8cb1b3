"""Where nodes sit: on a host of a worker, or as plain objects in this process."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any, Protocol

from dask.system import CPU_COUNT

from byzflow.engine.actor.base import ActorRef
from byzflow.engine.actor.batch import Batch
from byzflow.engine.actor.calls import Call, Outcome, Recorder, late
from byzflow.engine.actor.columns import Columns
from byzflow.engine.actor.crew import Crew
from byzflow.engine.actor.lane import Lane, stop_all
from byzflow.engine.actor.sweeps import asks_of, kinds_of, names_of
from byzflow.engine.rounds.resident import ASKED, Resident

__all__ = ("Host", "LocalHost", "Seat", "by_host", "finder", "is_away", "is_remote", "place_of")


class Host(Protocol):
    """Where nodes sit: takes many calls at once."""

    async def call_many(self, calls: Sequence[Call], deadline: float | None = None) -> Sequence[Outcome]:
        """Return the outcome of each call, in order."""


@dataclass(frozen=True, eq=False, slots=True)
class Seat:
    """Where one node sits."""

    host: Host
    object_id: str


class LocalHost:
    """Nodes that are plain objects of this process.

    Synchronous methods run in other threads, so that one that hangs is only late; coroutines
    are awaited on the loop of the caller, with which they may share things.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Any] = {}
        self._crew = Crew("local", CPU_COUNT)
        self._lanes: dict[str, Lane] = {}
        self._late: set[asyncio.Task[None]] = set()
        end = weakref.finalize(self, stop_all, self._lanes, self._crew)  # where nobody calls close()
        end.atexit = False  # all threads are daemons

    def seat(self, node: Any) -> Seat:
        """Take in a node and return its seat; the handle of a spawned one has a `Resident` behind it."""
        name = f"local-{len(self._nodes)}"
        self._nodes[name] = node if is_remote(node) else Resident(node)
        return Seat(self, name)

    def is_elsewhere(self, object_id: str) -> bool:
        """Whether a node is a bare reference to an object of some backend, which may be lost."""
        return isinstance(getattr(self._nodes[object_id], "_resident_node", None), ActorRef)

    async def call_many(self, calls: Sequence[Call], deadline: float | None = None) -> Columns:
        """Run calls, different nodes side by side, those of one node in the order given."""
        awaiting = {name for name, call in kinds_of(calls) if self._is_awaited(name, call)}
        batch = Batch(len(calls), asks_of(calls))
        moves: list[Callable[[], None]] = []
        queues: dict[str, list[int]] = {}
        for position, name in enumerate(names_of(calls)):
            if name in awaiting:
                queues.setdefault(name, []).append(position)
            elif (lane := self._lane(name)).queue(batch, position):
                moves.append(lane.move)
        tasks = {
            asyncio.create_task(self._serve(batch, [(position, calls[position]) for position in positions]))
            for positions in queues.values()
        }
        self._crew.run(*moves)
        try:
            await batch.wait(deadline)
        finally:
            outcomes = batch.close(lambda position: late(calls[position], deadline))
            for task in tasks:
                if not task.done():
                    self._leave(task)
        return outcomes

    def close(self) -> None:
        """End the threads; one that hangs is left behind as a daemon."""
        stop_all(self._lanes, self._crew)

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            resident = self._nodes[name]
            lane = self._lanes[name] = Lane(self._crew, lambda: resident, lambda *outcome: None)
        return lane

    def _is_awaited(self, name: str, call: Call) -> bool:
        """Whether a call is for the loop of the caller."""
        resident = self._nodes[name]
        if is_remote(resident):
            return True
        if call.method in ASKED:
            return _is_async(getattr(resident._resident_node, call.args[1], None))
        return _is_async(getattr(resident, call.method, None))

    async def _serve(self, batch: Batch, queue: Sequence[tuple[int, Call]]) -> None:
        """Run the calls of one node, some of which are for this loop, one after another."""
        for done, (position, call) in enumerate(queue):
            if self._is_awaited(call.object_id, call):
                outcome = await _awaited(self._nodes[call.object_id], call)
            else:
                outcome = await _alone(self._lane(call.object_id), call)
            batch.settle(position, outcome.value, outcome.error)
            if isinstance(outcome.error, asyncio.CancelledError):
                for other, _ in queue[done + 1 :]:
                    batch.settle(other, None, outcome.error)
                raise outcome.error

    def _leave(self, task: asyncio.Task[Any]) -> None:
        """Give a late task up without waiting for a node that will not be cancelled."""
        task.cancel()
        self._late.add(task)
        task.add_done_callback(self._late.discard)


async def _alone(lane: Lane, call: Call) -> Outcome:
    batch = Batch(1, [call.ask()])
    lane.submit(batch, 0)
    try:
        await batch.wait(None)
    finally:
        outcomes = batch.close(lambda _: late(call, None))
    return outcomes[0]


async def _awaited(resident: Any, call: Call) -> Outcome:
    value: Any = None
    with Recorder() as record:
        value = call.ask()(resident)
        if inspect.isawaitable(value):  # a remembered answer is not
            value = await value
        if inspect.isawaitable(value):  # a backend may hand on a coroutine that it was given
            value = await value
    return Outcome(None if record.error else value, record.error)


def is_remote(node: Any) -> bool:
    """Whether a node is the handle of a spawned one.

    Examples
    --------
    >>> is_remote(object())
    False
    """
    return hasattr(type(node), "_place")


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


def is_away(host: Host) -> bool:
    """Whether a host is in another process.

    Examples
    --------
    >>> is_away(LocalHost())
    False
    """
    return not getattr(host, "address", "inproc://").startswith("inproc://")


def place_of(node: Any) -> Seat | None:
    """Return where a spawned node sits, or None for any other object and for one that was closed.

    Examples
    --------
    >>> place_of(object()) is None
    True
    """
    place = finder(node)()
    return None if place is None else Seat(*place)


def finder(node: Any) -> Callable[[], tuple[Host, str] | None]:
    """Return what finds host and object id of a spawned node, or None for any other and for one closed.

    Examples
    --------
    >>> finder(object())() is None
    True
    """
    find = getattr(node, "_place", None) if is_remote(node) else None
    return find if callable(find) else _nowhere


def _nowhere() -> None:
    return None


def _is_async(method: Any) -> bool:
    function = method.__func__ if type(method) is MethodType else None
    if type(function) is FunctionType and not function.__dict__:  # as nearly always, and nothing marks it
        return bool(function.__code__.co_flags & inspect.CO_COROUTINE)
    return inspect.iscoroutinefunction(method) or getattr(method, "is_remote", False)
