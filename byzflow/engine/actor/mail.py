"""The client's side of a host's mailboxes: senders in order, and nothing lost to a cancelled reader."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

from byzflow.engine.actor.parcel import Parcel

if TYPE_CHECKING:
    from byzflow.engine.actor.hostref import HostRef

__all__ = ("Mail",)

Box = tuple[str, str]  # id of the object, name of the channel


class Mail:
    """Senders and readers of one host's mailboxes, in this process.

    Parameters
    ----------
    host : HostRef
        Where the mailboxes are.
    """

    def __init__(self, host: HostRef) -> None:
        self._host = host
        self._sending: defaultdict[Box, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._reading: defaultdict[Box, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._returned: defaultdict[Box, deque[Parcel]] = defaultdict(deque)
        self._received: defaultdict[Box, int] = defaultdict(int)

    async def deliver(self, object_id: str, name: str, parcel: Parcel) -> None:
        """Append to a mailbox, in the order of the calls; from any loop."""
        await self._host.runtime.run(self._deliver, (object_id, name), parcel)

    async def receive(self, object_id: str, name: str, timeout: float | None) -> Any:
        """Return the next message, or None after `timeout` [seconds]; from any loop."""
        handover = _Handover()
        box = (object_id, name)
        try:
            await self._host.runtime.run(self._receive, box, timeout, handover)
        except asyncio.CancelledError:
            parcel = handover.abandon()
            if parcel is not None:
                await asyncio.shield(self._host.runtime.run(self._give_back, box, parcel))
            raise
        return None if handover.parcel is None else handover.parcel.open()

    def forget(self, object_id: str) -> None:
        """Drop what is kept for an object that is gone."""
        for kept in (self._sending, self._reading, self._returned, self._received):
            for box in [box for box in kept if box[0] == object_id]:
                del kept[box]

    async def _deliver(self, box: Box, parcel: Parcel) -> None:
        async with self._sending[box]:
            await self._host.execute("put", *box, parcel)

    async def _receive(self, box: Box, timeout: float | None, handover: _Handover) -> None:
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        reading = self._reading[box]  # which `forget` may drop meanwhile
        try:
            async with asyncio.timeout_at(end):
                await reading.acquire()
        except TimeoutError:
            return
        try:
            returned = self._returned[box]
            if not returned:
                left = None if end is None else max(0.0, end - loop.time())
                answer = await self._host.execute("get", *box, self._received[box], left)
                if answer is None:
                    return
                self._received[box], parcel = answer
                returned.append(parcel)
            if handover.offer(returned[0]):
                returned.popleft()
        finally:
            reading.release()

    async def _give_back(self, box: Box, parcel: Parcel) -> None:
        self._returned[box].appendleft(parcel)


class _Handover:
    """One message between two threads: either the reader has it, or the box keeps it."""

    def __init__(self) -> None:
        self.parcel: Parcel | None = None
        self._abandoned = False
        self._lock = threading.Lock()

    def offer(self, parcel: Parcel) -> bool:
        with self._lock:
            if not self._abandoned:
                self.parcel = parcel
            return not self._abandoned

    def abandon(self) -> Parcel | None:
        with self._lock:
            self._abandoned = True
            return self.parcel
