"""Where nodes sit: on a host of a worker, or as plain objects in this process."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dask.system import CPU_COUNT

from byzflow.engine.actor.calls import Call, Outcome, Recorder, text_of
from byzflow.engine.actor.crew import Crew
from byzflow.engine.actor.lane import Lane
from byzflow.engine.node.resident import ASKED, Resident

__all__ = ("Host", "LocalHost", "Seat", "by_host", "found_at", "is_away", "is_remote", "place_of")


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
        self._late: set[asyncio.Task[Outcome]] = set()

    def seat(self, node: Any) -> Seat:
        """Take in a node and return its seat; the handle of a spawned one has a `Resident` behind it."""
        name = f"local-{len(self._nodes)}"
        self._nodes[name] = node if is_remote(node) else Resident(node)
        return Seat(self, name)

    async def call_many(self, calls: Sequence[Call], deadline: float | None = None) -> list[Outcome]:
        """Run calls, different nodes side by side, those of one node in the order given."""
        queues: dict[str, list[int]] = {}
        for position, call in enumerate(calls):
            queues.setdefault(call.object_id, []).append(position)
        outcomes: dict[int, Outcome] = {}
        tasks = {
            asyncio.create_task(self._serve([(p, calls[p]) for p in positions], outcomes))
            for positions in queues.values()
        }
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=deadline)
        finally:
            for task in tasks:
                if not task.done():
                    self._leave(task)
        return [outcomes.get(p) or _late(call, deadline) for p, call in enumerate(calls)]

    def close(self) -> None:
        """End the threads; one that hangs is left behind as a daemon."""
        for lane in self._lanes.values():
            lane.stop()
        self._lanes.clear()
        self._crew.close()

    async def _serve(self, calls: Iterable[tuple[int, Call]], outcomes: dict[int, Outcome]) -> None:
        for position, call in calls:
            outcomes[position] = await self._one(call)

    async def _one(self, call: Call) -> Outcome:
        resident = self._nodes[call.object_id]
        method = call.args[1] if call.method in ASKED else call.method
        value: Any = None
        if is_remote(resident) or _is_async(getattr(resident, method, None)):
            with Recorder() as record:
                value = getattr(resident, call.method)(*call.args, **call.kwargs)
                if inspect.isawaitable(value):  # a remembered answer is not
                    value = await value
                if inspect.isawaitable(value):  # a backend may hand on a coroutine that it was given
                    value = await value
            if isinstance(record.error, asyncio.CancelledError):
                raise record.error
            return Outcome(None if record.error else value, record.error, record.seconds)
        return await self._in_lane(resident, call)

    async def _in_lane(self, resident: Any, call: Call) -> Outcome:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome] = loop.create_future()
        lane = self._lanes.get(call.object_id)
        if lane is None:
            lane = self._lanes[call.object_id] = Lane(self._crew, lambda: resident, lambda *outcome: None)

        lane.submit(_Errand(resident, call, answer, loop), 0)
        return await answer

    def _leave(self, task: asyncio.Task[Any]) -> None:
        """Give a late task up without waiting for a node that will not be cancelled."""
        task.cancel()
        self._late.add(task)
        task.add_done_callback(self._late.discard)


class _Errand:
    """One call in a lane, for which a coroutine of another thread waits."""

    def __init__(
        self, resident: Any, call: Call, answer: asyncio.Future[Outcome], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.context = contextvars.copy_context()
        self._resident, self._call, self._answer, self._loop = resident, call, answer, loop

    def is_open(self) -> bool:
        return not self._answer.done()

    def run(self, index: int, subject: Any) -> Any:
        return getattr(self._resident, self._call.method)(*self._call.args, **self._call.kwargs)

    def settle(self, index: int, value: Any, error: BaseException | None, seconds: float) -> None:
        said = None if error is None else text_of(error)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._answered, Outcome(value, error, seconds, said))

    def _answered(self, outcome: Outcome) -> None:
        if not self._answer.done():
            self._answer.set_result(outcome)


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
    place = found_at(node)
    return None if place is None else Seat(*place)


def found_at(node: Any) -> tuple[Host, str] | None:
    """Return host and object id of a spawned node, or None for any other object and for one that was closed.

    Examples
    --------
    >>> found_at(object()) is None
    True
    """
    find = getattr(node, "_place", None) if is_remote(node) else None
    place: tuple[Host, str] | None = find() if callable(find) else None
    return place


def _is_async(method: Any) -> bool:
    return inspect.iscoroutinefunction(method) or getattr(method, "is_remote", False)


def _late(call: Call, deadline: float | None) -> Outcome:
    text = f"{call.object_id} had to answer within {deadline} s; it did not."
    return Outcome(error=TimeoutError(text), seconds=deadline or 0.0)
