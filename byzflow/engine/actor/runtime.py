"""The runtime: one Dask client per backend in this process, shared, counted, usable from any loop."""

from __future__ import annotations

import asyncio
import atexit
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

from distributed import Client
from distributed.deploy.cluster import Cluster
from distributed.security import Security

from byzflow.engine.actor.connection import Connection
from byzflow.engine.actor.fleet import Fleet
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.actor.portal import Portal

__all__ = ("Runtime",)


class Runtime(Portal):
    """A Dask client, its workers and their node hosts.

    Do not construct it; `acquire` one, and `release` it as often. An embedded cluster starts with its
    first user and closes with its last one.

    Attributes
    ----------
    client : distributed.Client
        Synchronous for the runtimes that byzflow starts, so that its loop runs in a thread of its own.
        A client of the user's stays as it is.

    Examples
    --------
    >>> async def example():
    ...     runtime = await Runtime.acquire("thread")
    ...     addresses = await runtime.workers()
    ...     await runtime.release()
    ...     return len(addresses)
    >>> asyncio.run(example())
    1
    """

    _live: ClassVar[dict[tuple[Any, ...], Runtime]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, spec: Any, security: Security | None) -> None:
        super().__init__(Connection(spec, security))
        self._key = _key(spec, security)
        self._spec = spec
        self._users = 0
        self._fleet: Fleet | None = None
        self._ready: Future[None] = Future()

    def __repr__(self) -> str:
        return f"<Runtime {self._spec!r}, {len(self._fleet or ())} hosts, {self._users} users>"

    @classmethod
    async def acquire(cls, spec: str | Client | Cluster, *, security: Security | None = None) -> Runtime:
        """Return the runtime of `spec`, started.

        Parameters
        ----------
        spec : str or Client or Cluster
            ``"thread"``, ``"process"``, ``"gpu"``, the address of a scheduler, or a client or cluster object
            of the user's, which is used and never closed.
        security : distributed.security.Security, optional
            TLS files for a ``tls://`` address; default: what dask.config has.

        Raises
        ------
        ConnectionError
            If no scheduler answers at the address, within ``byzflow.comm.connect-timeout``.
        MissingExtraError
            If the backend needs a package that is not installed.
        """
        runtime = cls._enlist(spec, security)
        try:
            await asyncio.shield(asyncio.wrap_future(runtime._ready))
        except BaseException:
            await runtime.release()
            raise
        return runtime

    def share(self) -> Runtime:
        """Return the same runtime for one more user, who has to `release` it too."""
        with self._guard:
            self._users += 1
        return self

    async def release(self) -> None:
        """Give the runtime back; the last one to do so closes what was started."""
        with self._guard:
            self._users -= 1
            if self._users != 0:
                return
            self._forget()
        await asyncio.gather(asyncio.shield(asyncio.wrap_future(self._ready)), return_exceptions=True)
        try:
            if self._fleet is not None and self.connection.is_alive:
                await self.run(self._fleet.leave)
        finally:
            if self.connection.is_async and self.connection.is_alive:
                await self.run(self.connection.close_async)
            else:
                await self.connection.close_async()

    async def workers(self) -> list[str]:
        """Return the addresses of the live workers, sorted."""
        return await self.run(self._hosted.workers)

    async def hosts(self) -> dict[str, HostRef]:
        """Return the node hosts of the live workers by address, making those that are missing.

        Raises
        ------
        TimeoutError
            If there is no worker within ``byzflow.comm.connect-timeout``.
        """
        return await self.run(self._hosted.hosts)

    async def place(self, *, patience: float | None = None, needs: frozenset[str] = frozenset()) -> HostRef:
        """Return the host with the fewest objects and count one more there.

        If there is none, wait for `patience` [seconds], by default ``byzflow.comm.connect-timeout``. Its
        worker has those resources of `needs` that any worker of the cluster has, or had.
        """
        return (await self.run(self._hosted.place, 1, patience, needs))[0]

    async def place_many(self, count: int) -> list[HostRef]:
        """Return a host for each of `count` objects, evenly loaded, and count them there."""
        return await self.run(self._hosted.place, count)

    @property
    def can_spare(self) -> bool:
        """Whether a worker may go: it is not the only one, and those that were lost have been replaced."""
        return self._hosted.can_spare

    def host_at(self, address: str, key: str) -> HostRef:
        """Return the host with this key, whichever runtime or process has made it."""
        for runtime in (self, *tuple(self._live.values())):
            host = runtime._fleet.find(key) if runtime._fleet is not None else None
            if host is not None:
                return host
        return self._hosted.adopt(address, key)

    def look(self) -> None:
        """Mark all hosts as lost if the scheduler that knew them is gone. On the client's loop."""
        if self._fleet is not None:
            self._fleet.look()

    @property
    def dashboard_link(self) -> str | None:
        """Where to look at the cluster in a browser; None without a dashboard."""
        return self.connection.dashboard_link

    @property
    def _hosted(self) -> Fleet:
        if self._fleet is None:
            raise RuntimeError(
                "A runtime must be acquired before use; this one is not started. Await acquire()."
            )
        return self._fleet

    @classmethod
    def _enlist(cls, spec: Any, security: Security | None) -> Runtime:
        with cls._guard:
            runtime = cls._live.get(_key(spec, security))
            if runtime is None:
                runtime = cls(spec, security)
                runtime._start()
                cls._live[runtime._key] = runtime
            runtime._users += 1
        return runtime

    def _forget(self) -> None:
        if self._live.get(self._key) is self:
            del self._live[self._key]

    def _start(self) -> None:
        if self.connection.is_async:
            loop = self._spec.loop.asyncio_loop
            self._ready = asyncio.run_coroutine_threadsafe(self._open_async(), loop)
            return
        starter = ThreadPoolExecutor(1, "byzflow-start")
        self._ready = starter.submit(self._open)
        starter.shutdown(wait=False)

    async def _open_async(self) -> None:
        await self.connection.open_async()
        await self._watch()

    def _open(self) -> None:
        try:
            self.connection.open()
            self.run_sync(self._watch)
        except BaseException:
            with self._guard:
                self._forget()
            raise

    async def _watch(self) -> None:
        self._fleet = Fleet(self)
        await self._fleet.watch()

    def _close_at_exit(self) -> None:
        with self._guard:
            self._forget()
        if not self.connection.is_borrowed and not self.connection.is_async:
            if self._fleet is not None and self.connection.is_alive:
                self.run_sync(self._fleet.leave)
            self.connection.close()


def _close_all() -> None:
    for runtime in tuple(Runtime._live.values()):
        runtime._close_at_exit()


def _key(spec: Any, security: Security | None) -> tuple[Any, ...]:
    return (spec, id(security)) if isinstance(spec, str) else (type(spec).__name__, id(spec))


atexit.register(_close_all)
