"""A lost node on its way to another worker: made there anew and given its state, while rounds go on.

What it has missed since is not this module's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any
from uuid import uuid4

from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.actor.portal import ended
from byzflow.engine.config import seconds
from byzflow.engine.rounds.attributes import State
from byzflow.engine.rounds.making import rebuild
from byzflow.exceptions import DeadlineError

__all__ = ("Move",)


class Move:
    """One try to bring a node to a live worker.

    It takes as long as the node's constructor does, and is given up only with its worker. It runs on the loop
    of the Dask client, as each round may have a loop of its own. The node stays where it was until `settle`.

    Parameters
    ----------
    backend : DaskActorBackend
        Where the node was.
    recipe : sequence
        What `rebuild` takes.
    state : State or None
        What the node takes up when it is made; None if it is to stay so.
    patience : float
        How long to wait for a worker if there is none [seconds].
    """

    def __init__(
        self, backend: DaskActorBackend, recipe: Sequence[Any], state: State | None, patience: float
    ) -> None:
        assert backend.runtime is not None
        self._backend, self._runtime = backend, backend.runtime
        self._recipe, self._state = recipe, state
        self._object_id = f"object-{uuid4().hex}"  # one that was given up may still be made, under its own
        self._host: HostRef | None = None
        self._task: asyncio.Task[Any] | None = None
        self._placed: Future[HostRef] = Future()
        self._work: Future[Outcome] = self._runtime.begin(self._go, patience)
        self._work.add_done_callback(lambda work: self._placed.cancel())  # if there was no place for it

    @property
    def is_over(self) -> bool:
        """Whether it has come to an end, good or bad."""
        return self._work.done()

    async def wait(self, limit: float | None) -> None:
        """Return when it is over, or `limit` [seconds] after a worker was found."""
        await ended(self._placed, None)
        await ended(self._work, limit)

    def settle(self) -> Outcome:
        """Say how it went; if well, the node sits there from now on.

        Raises
        ------
        NodeLostError, DeadlineError
            If the worker went too or said nothing, or there was none.
        """
        outcome = self._work.result()
        if outcome.error is None:
            self._backend.host, self._backend.object_id = self._host, self._object_id
        return outcome

    def cancel(self) -> None:
        """Give it up; `close` waits for the end."""
        self._work.cancel()

    async def close(self) -> None:
        """Give it up, unless it is over, and wait until nothing of it is left."""
        self.cancel()
        if self._task is not None and self._runtime.connection.is_alive:
            await self._runtime.run(asyncio.wait, [self._task])

    async def _go(self, patience: float) -> Outcome:
        self._task = asyncio.current_task()
        host = await self._runtime.place(patience=patience)
        self._placed.set_result(host)
        try:
            outcome = await _while_there(host, self._made(host))
            self._host = host if outcome.error is None else None
        except DeadlineError:
            host.load += 1  # for what it may still be making
            raise
        finally:
            if self._host is None:
                host.load -= 1
                await host.drop(self._object_id)
        return outcome

    async def _made(self, host: HostRef) -> Outcome:
        (outcome,) = await host.spawn_many({self._object_id: (rebuild, self._recipe, {})})
        if outcome.error is None and self._state is not None:
            (outcome,) = await host.call_many([Call(self._object_id, "resident_restore", (self._state,))])
        return outcome


async def _while_there(host: HostRef, work: Any) -> Outcome:
    """Await what a host does for as long as it answers at all."""
    task, limit = asyncio.ensure_future(work), seconds("host.start-deadline")
    try:
        while not (await asyncio.wait([task], timeout=limit))[0]:
            await host.execute("ping", deadline=limit)
        outcome: Outcome = task.result()
        return outcome
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
