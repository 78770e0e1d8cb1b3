"""A mailbox that outlives its worker: what lies in it unread is kept by this process too."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from weakref import WeakValueDictionary

from byzflow.engine.actor.channels import Endpoint
from byzflow.engine.actor.parcel import Parcel
from byzflow.engine.actor.portal import ended
from byzflow.engine.actor.unread import Unread
from byzflow.exceptions import NodeLostError

if TYPE_CHECKING:
    from byzflow.engine.actor.hostref import HostRef

__all__ = ("Numbered", "Owner", "Postbox")


class Owner:
    """What a mailbox belongs to, on its worker."""

    def pid(self) -> int:
        """Return the number of the process."""
        return os.getpid()


class Numbered(NamedTuple):
    """A message as it lies in a mailbox: the number that it is kept by, and itself."""

    number: int
    parcel: Parcel


class _Place(NamedTuple):
    backend: Any
    endpoint: Endpoint


class Postbox:
    """A mailbox on a worker, made anew on another one when that is lost.

    What lay in it unread is handed out first then: nothing is lost, nothing doubled, all in order. That holds
    for what is sent from this process; what comes from others to its endpoint is lost with the worker.

    Parameters
    ----------
    name : str
        Of the mailbox.
    settle : callable, optional
        Awaited with the backend of each new place before that is used.

    Examples
    --------
    >>> from byzflow.engine.actor.backends.thread import ThreadActorBackend
    >>> async def example():
    ...     box = Postbox("letters")
    ...     await box.open(ThreadActorBackend())
    ...     await box.put("hello")
    ...     message = await box.get(5.0)
    ...     await box.close()
    ...     return message
    >>> asyncio.run(example())
    'hello'
    """

    _known: ClassVar[WeakValueDictionary[tuple[str, str], Postbox]] = WeakValueDictionary()
    """By all endpoints that they ever had, and name."""

    _place: _Place

    def __init__(self, name: str, settle: Callable[[Any], Awaitable[None]] | None = None) -> None:
        self.name = name
        self.unread = Unread()
        self._settle = settle
        self._rescued: deque[Parcel] = deque()
        self._guard = threading.Lock()
        self._move: Future[None] | None = None
        self._moving: asyncio.Task[Any] | None = None
        self._is_opening = self._is_closed = False

    @property
    def backend(self) -> Any:
        """Where it is, once it was opened."""
        return self._place.backend

    @property
    def endpoint(self) -> Endpoint:
        """Its address there."""
        return self._place.endpoint

    @classmethod
    def at(cls, endpoint: Endpoint, name: str) -> Postbox | None:
        """Return the mailbox that is, or was, at an endpoint, if it is one of these."""
        return cls._known.get((endpoint.actor_id, name))

    async def open(self, backend: Any, host: HostRef | None = None) -> None:
        """Make it on `host`, or any worker of a backend, which is closed with it, and use it from now on."""
        try:
            await backend.start()
            where = {} if host is None else {"host": host}
            await backend.construct(Owner, args=(), kwargs={}, **where)
            endpoint = await backend.chan_open(self.name)
            if self._settle is not None:
                await self._settle(backend)
        except BaseException:
            await backend.close()
            raise
        self._known[endpoint.actor_id, self.name] = self
        self._place = _Place(backend, endpoint)

    async def put(self, payload: Any) -> None:
        """Append a message, waiting while the mailbox is full.

        Raises
        ------
        NodeLostError
            If its worker is gone, and as many messages as fit into one wait for the next.
        RuntimeError
            If it was closed.
        """
        parcel = Parcel(payload)
        kept = parcel if self.endpoint.address.startswith("inproc://") else parcel.copied()
        number = self.unread.add(kept)
        place = backend, at = self._place  # after `add`: see `_go`
        try:
            await backend.chan_put(from_ep=at, to_ep=at, name=self.name, payload=Numbered(number, kept))
        except BaseException as error:
            is_kept = self._is_gone(place, error) and self._will_rescue(place)
            if not is_kept and self.unread.take(number) is not None:
                raise
            if not isinstance(error, Exception):
                raise

    async def get(self, timeout: float | None) -> Any:
        """Return the next message, or None after `timeout` [seconds].

        Raises
        ------
        NodeLostError
            If its worker is gone, nothing is left to hand out, and no other worker comes within
            ``byzflow.comm.connect-timeout``.
        RuntimeError
            If it was closed.
        """
        parcel = await self.take(timeout)
        return None if parcel is None else parcel.open()

    async def take(self, timeout: float | None) -> Parcel | None:
        """As `get`, but leave it to the caller to open the message, which may fail."""
        clock = asyncio.get_running_loop().time
        end = math.inf if timeout is None else clock() + timeout
        while True:
            if (parcel := self._next_rescued()) is not None:
                return parcel
            place, left = self._place, None if timeout is None else max(0.0, end - clock())
            try:
                found = await place.backend.chan_get(ep=place.endpoint, name=self.name, timeout=left)
            except RuntimeError as error:
                if self._is_closed or not self._is_gone(place, error):
                    raise
                self._rescue()
                if not self._rescued and not await self._moved(place, left):
                    return None
                continue
            if not isinstance(found, Numbered):  # none, or from another process
                return None if found is None else Parcel(found)
            if self.unread.take(found.number) is not None:
                return found.parcel

    async def chan_put(self, *, from_ep: Endpoint, to_ep: Endpoint, name: str, payload: Any) -> None:
        """Send to another mailbox, as a backend does."""
        await self.backend.chan_put(from_ep=from_ep, to_ep=to_ep, name=name, payload=payload)

    async def chan_get(self, *, ep: Endpoint, name: str, timeout: float | None) -> Any:
        """Return the next message of this one, as a backend does."""
        return await self.get(timeout)

    async def close(self) -> None:
        """Take it away with all that is unread; again is the same as once."""
        self._is_closed = True
        runtime = self.backend.runtime
        if runtime is not None and runtime.connection.is_alive:
            await runtime.run(self._give_up)
        await self.backend.close()

    def _is_gone(self, place: _Place, error: BaseException) -> bool:
        """Whether an error says that the mailbox is there no more: lost, or moved this very moment."""
        is_closed = isinstance(error, RuntimeError) and self._place is not place
        return isinstance(error, NodeLostError) or is_closed

    def _will_rescue(self, place: _Place) -> bool:
        """Whether what did not reach this place is handed out all the same, once the mailbox has moved."""
        if self._is_closed or self.unread.is_full:
            return False
        return self._place is not place or place.backend.host.lost

    def _next_rescued(self) -> Parcel | None:
        try:
            return self._rescued.popleft()
        except IndexError:
            return None

    def _rescue(self) -> None:
        self._rescued.extend(self.unread.rescue())

    async def _moved(self, lost: _Place, limit: float | None) -> bool:
        """Wait until there is another place than the lost one; False if that takes longer than `limit`."""
        with self._guard:
            if self._place is not lost:
                return True
            if self._move is None or self._move.done():
                runtime = lost.backend.runtime
                if runtime is None or not runtime.connection.is_alive:
                    raise ConnectionError(
                        f"Mailbox {self.name!r} needs a Dask client whose loop runs; this one was closed. "
                        "Use a new client."
                    )
                self._move = runtime.begin(self._go, lost.backend)
            move = self._move
        if await ended(move, limit):
            move.result()
        return move.done()

    async def _go(self, lost: Any) -> None:
        """Make the mailbox anew; who sent before the rescue is rescued, who sends after it does so there."""
        self._moving, self._is_opening = asyncio.current_task(), True
        try:
            await self.open(lost.clone())
        finally:
            self._is_opening = False
        self._rescue()
        await lost.close()

    async def _give_up(self) -> None:
        """End a move that is under way."""
        if self._moving is None:
            return
        if self._is_opening:
            self._moving.cancel()
        await asyncio.wait([self._moving])
