"""The node host: one async Dask actor per worker, holding many objects, each in a lane of its own.

Only what runs on the worker is here; the client's handle is `HostRef`.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from distributed import get_worker

from byzflow.engine.actor.batch import Batch
from byzflow.engine.actor.calls import Call, Recorder, late
from byzflow.engine.actor.columns import Columns
from byzflow.engine.actor.crew import Crew
from byzflow.engine.actor.dial import dialled
from byzflow.engine.actor.lane import Lane, stop_all
from byzflow.engine.actor.line import Answerer
from byzflow.engine.actor.mailbox import Mailbox
from byzflow.engine.actor.parcel import Parcel
from byzflow.engine.actor.sendable import portable, sendable
from byzflow.engine.actor.shared import Spot
from byzflow.engine.actor.sweeps import asks_of, names_of
from byzflow.engine.actor.tray import Left, Waiter

__all__ = ("NodeHost",)


class NodeHost:
    """Many objects on one worker, reached by one Dask actor.

    Parameters
    ----------
    key : str
        Key of the Dask actor.
    capacity : int
        Messages that a mailbox holds.
    """

    def __init__(self, key: str, capacity: int = 1024) -> None:
        self._key = key
        self._capacity = capacity
        self._lanes: dict[str, Lane] = {}
        self._mailboxes: dict[tuple[str, str], Mailbox] = {}
        worker = get_worker()
        self._remote = not worker.address.startswith("inproc://")
        self._portable = portable if self._remote else None
        self._waiter = Waiter()
        self._lines: weakref.WeakSet[Answerer] = weakref.WeakSet()
        self._crew = Crew("host", worker.state.nthreads)
        end = weakref.finalize(self, _stop, self._lanes, self._crew, self._lines)
        end.atexit = False  # all threads are daemons, and no thread can be started any more

    async def spawn_many(self, object_ids: Sequence[str], blob: Parcel) -> Parcel | Left:
        """Build objects, each in a new lane, and return how that went, in order.

        They are built one after another: constructors may seed, or draw from, streams of the whole process.
        The parcel holds one more for each object, with ``(factory, args, kwargs)``: so they share nothing.
        """
        batch = Batch(len(object_ids), portable=self._portable)
        lanes = [
            Lane(self._crew, partial(_build, recipe), partial(batch.settle, index))
            for index, recipe in enumerate(blob.open())
        ]
        self._lanes.update(zip(object_ids, lanes, strict=True))  # so that one that hangs can be dropped
        self._crew.run(partial(_move, lanes))
        await batch.wait(None)
        outcomes = batch.close()
        for index in outcomes.errors:
            self._lanes.pop(object_ids[index], None)
        return self._reply(outcomes)

    async def call_many(
        self, blob: Parcel, count: int, deadline: float | None, tray: tuple[Any, ...] | None = None
    ) -> Parcel | Left:
        """Run `count` calls, different objects side by side, and return their outcomes in order.

        A call that is not done after `deadline` [seconds] has a `DeadlineError` as its outcome, and does
        not keep the others from theirs. What is large in the reply is left in the caller's tray, if there
        is one.
        """
        calls: Sequence[Call] = []
        with Recorder() as opening:
            calls = blob.open()
        if opening.error is not None:
            return self._reply(Columns([None] * count, dict.fromkeys(range(count), opening.error)), tray)
        batch = Batch(count, asks_of(calls), self._portable)
        lanes: list[Lane] = []
        for index, object_id in enumerate(names_of(calls)):
            lane = self._lanes.get(object_id)
            if lane is None:
                batch.settle(index, None, _unknown(object_id))
            elif lane.queue(batch, index):
                lanes.append(lane)
        self._crew.run(*(lane.move for lane in lanes))
        await batch.wait(deadline)
        return self._reply(batch.close(lambda index: late(calls[index], deadline)), tray)

    async def drop(self, object_ids: Iterable[str]) -> None:
        """Forget objects, their threads and their mailboxes; unknown ones are ignored."""
        names = set(object_ids)
        for name in names & self._lanes.keys():
            self._lanes.pop(name).stop()
        dropped = [self._mailboxes.pop(box) for box in tuple(self._mailboxes) if box[0] in names]
        for mailbox in dropped:
            await mailbox.close()

    async def close(self) -> None:
        """Forget everything."""
        await self.drop(tuple(self._lanes))
        _stop(self._lanes, self._crew, self._lines)

    async def ping(self) -> frozenset[str]:
        """Answer with the names of the resources that the worker was started with."""
        return frozenset(get_worker().state.total_resources)

    async def open_line(self, name: str, token: bytes) -> bool:
        """Connect to a caller, and answer what it calls there; False if it is not on this machine."""
        try:
            connection = dialled(name, token)
        except OSError:
            return False
        execute = partial(get_worker().actor_execute, self._key)
        loop = asyncio.get_running_loop()
        _, line = await loop.create_unix_connection(lambda: Answerer(execute), sock=connection)
        self._lines.add(line)
        return True

    async def open_mailbox(self, object_id: str, name: str) -> None:
        """Make a mailbox, once; later calls change nothing."""
        self._mailbox(object_id, name)

    async def put(self, object_id: str, name: str, message: Parcel) -> None:
        """Append to a mailbox, waiting for room."""
        await self._mailbox(object_id, name).put(message)

    async def get(
        self, object_id: str, name: str, received: int, timeout: float | None
    ) -> tuple[int, Parcel] | None:
        """Return the first message after number `received`, or None after `timeout` [seconds]."""
        return await self._mailbox(object_id, name).get(received, timeout)

    def _mailbox(self, object_id: str, name: str) -> Mailbox:
        if object_id not in self._lanes:
            raise _unknown(object_id)
        return self._mailboxes.setdefault((object_id, name), Mailbox(self._capacity))

    def _reply(self, outcomes: Columns, tray: tuple[Any, ...] | None = None) -> Parcel | Left:
        if not self._remote:
            return Parcel(outcomes)
        reply = sendable(outcomes)
        return reply if tray is None else self._waiter.serve(reply, Spot(*tray))


def _build(recipe: Parcel) -> Any:
    factory, args, kwargs = recipe.open()
    return factory(*args, **kwargs)


def _move(lanes: Iterable[Lane]) -> None:
    for lane in lanes:
        lane.move()


def _unknown(object_id: str) -> LookupError:
    return LookupError(f"Object {object_id!r} was asked for; this host does not hold it. Spawn it first.")


def _stop(lanes: dict[str, Lane], crew: Crew, lines: Iterable[Answerer]) -> None:
    stop_all(lanes, crew)
    for line in tuple(lines):
        line.close()
