"""The node hosts of one Dask client: made on first use, marked when their worker goes.

Every coroutine here runs on the client's loop; `Runtime` brings callers there.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from byzflow.engine.actor.connection import ClientClosedError
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.actor.quiet import QUIET
from byzflow.engine.config import seconds
from byzflow.exceptions import DeadlineError, NodeLostError

if TYPE_CHECKING:
    from byzflow.engine.actor.runtime import Runtime

__all__ = ("Fleet", "NoWorkersError")

TURN = 1.0
"""How long one look for a worker takes [s]."""


class NoWorkersError(DeadlineError):
    """A cluster has no worker at all."""


class Fleet:
    """The hosts of one runtime.

    Parameters
    ----------
    runtime : Runtime
        Whose client and loop they use.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._hosts: dict[str, HostRef] = {}
        self._foreign: dict[str, HostRef] = {}
        self._alive: set[str] = set()
        self._most = 0  # workers that were alive at the same time
        self._offered: set[str] = set()  # resources that a worker had
        self._listener: Any = None
        self._line: Any = None  # the connection over which the scheduler says who goes
        self._is_current = False  # whether no worker has come or gone since the hosts were made
        self._making = asyncio.Lock()
        self._departed: set[str] = set()  # workers that went while the list of them was on its way
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._hosts)

    async def watch(self) -> None:
        """Listen for workers that go."""
        self._listener = await self._runtime.connection.listener()
        self._line = self._listener.scheduler_comm
        self._listener.subscribe_topic("all", self._hear)

    def look(self) -> None:
        """Notice that the client had to connect anew: whoever it speaks to now does not know these hosts."""
        line = None if self._listener is None else self._listener.scheduler_comm
        if line is None or line is self._line:
            return
        self._line, self._is_current = line, False
        self._listener.subscribe_topic("all", self._hear)
        for address in {host.address for host in (*self._hosts.values(), *self._foreign.values())}:
            self._lose(address)

    async def workers(self) -> list[str]:
        """Return the addresses of the live workers, sorted; `ConnectionError` if the scheduler is gone."""
        limit = seconds("comm.connect-timeout")
        try:
            async with asyncio.timeout(limit):
                return sorted(await self._runtime.client.nthreads())
        except OSError as error:  # a timeout is one too
            raise _silent(limit, error) from error

    async def hosts(self, *, patience: float | None = None) -> dict[str, HostRef]:
        """Return the hosts of the live workers, making those that are missing; wait for one if there is none.

        That is for `patience` [seconds], by default ``byzflow.comm.connect-timeout``. All who wait do so at
        the same time, and hold up nobody who will not wait.
        """
        if self._runtime.connection.is_closed:
            raise ClientClosedError
        if not await self._complete():
            await self._wait_for_one(seconds("comm.connect-timeout") if patience is None else patience)
            await self._complete()
        return dict(self._hosts)

    async def _complete(self) -> bool:
        """Make the hosts that are missing, and say whether there is any worker."""
        async with self._making:
            self.look()
            if self._is_current and self._hosts:
                return True
            self._is_current = True
            self._departed.clear()
            self._runtime.connection.revive()
            try:
                addresses = await self.workers()
                await asyncio.gather(
                    *(self._make(a) for a in addresses if a not in self._hosts and a not in self._departed)
                )
            except BaseException:  # a cancelled caller, for one: some are missing still
                self._is_current = False
                raise
            self._hosts = {a: self._hosts[a] for a in addresses if a in self._hosts}
            self._alive.update(addresses)
            self._alive -= self._departed
            self._most = max(self._most, len(self._alive))
            return bool(addresses)

    @property
    def can_spare(self) -> bool:
        """Whether there are as many workers as there ever were, and more than one."""
        return len(self._alive) >= max(self._most, 2)

    async def place(
        self, count: int = 1, patience: float | None = None, needs: frozenset[str] = frozenset()
    ) -> list[HostRef]:
        """Return a host for each of some objects, the one with the fewest, and count them there.

        Resources that no worker has had yet are no more than names: they bind nobody.
        """
        patience = seconds("comm.connect-timeout") if patience is None else patience
        hosts = list((await self.hosts(patience=patience)).values())
        if hosts and (needs := needs & self._offered):
            hosts = self._with(needs) or await self._wait_for_one_with(needs, patience)
        if not hosts:
            raise NodeLostError(
                "An object needs a live worker; all were lost while looking. Start workers and try again."
            )
        places = []
        for _ in range(count):
            host = min(hosts, key=lambda host: host.load)
            host.load += 1
            places.append(host)
        return places

    def find(self, key: str) -> HostRef | None:
        """Return the host with this key, if it is known here."""
        known = (*self._hosts.values(), *self._foreign.values())
        return next((host for host in known if host.key == key), None)

    def adopt(self, address: str, key: str) -> HostRef:
        """Return a handle of a host that another process has made."""
        with self._guard:
            return self._foreign.setdefault(key, HostRef(self._runtime, address, key))

    async def leave(self) -> None:
        """Release what lives on the workers, and stop listening."""
        if self._runtime.connection.is_open:
            await asyncio.gather(*(host.stop() for host in self._hosts.values()))
        for host in (*self._hosts.values(), *self._foreign.values()):
            host.lose()
        self._hosts.clear()
        if self._listener is None:
            return
        if self._listener.status == "running":
            self._listener.unsubscribe_topic("all")
        if self._runtime.connection.is_borrowed:
            with QUIET:  # Dask logs a trace when a client is closed whose scheduler went first
                await self._listener.close()

    def _with(self, needs: frozenset[str]) -> list[HostRef]:
        return [host for host in self._hosts.values() if needs <= host.resources]

    async def _wait_for_one_with(self, needs: frozenset[str], limit: float | None) -> list[HostRef]:
        for turn in _turns(limit):
            try:
                await self._wait_for(len(self._hosts) + 1, turn)
            except TimeoutError:
                continue
            self._is_current = False  # who came may not have been heard of yet
            await self._complete()
            if hosts := self._with(needs):
                return hosts
        raise NoWorkersError(
            f"A worker with the resources {sorted(needs)} was required"
            f"{f' within {limit:g} s' if limit else ''}; those there are have "
            f"{[sorted(host.resources) for host in self._hosts.values()]}. Start one with: "
            'dask worker ADDRESS --resources "NAME=1".'
        )

    async def _wait_for_one(self, limit: float | None) -> None:
        for turn in _turns(limit):
            self._runtime.connection.revive()  # each time: a nanny may give up meanwhile
            try:
                await self._wait_for(1, turn)
            except TimeoutError:
                continue
            return
        self._is_current = False  # what made it so found nobody
        raise NoWorkersError(
            f"The scheduler must have a worker{f' within {limit:g} s' if limit else ''}; it has none. "
            "Start one with: dask worker ADDRESS, or with cluster.scale(0) and cluster.scale(n) after a "
            "Client.restart(), which may leave a LocalCluster without any; or wait longer with "
            "byzflow.comm.connect-timeout, in rounds with byzflow.host.return-deadline."
        )

    async def _wait_for(self, count: int, turn: float) -> None:
        """Wait for so many workers, for one turn; else `TimeoutError`."""
        try:
            await self._runtime.client.wait_for_workers(count, timeout=turn)
        except TimeoutError:
            raise
        except OSError as error:  # of a scheduler that goes meanwhile
            raise _silent(seconds("comm.connect-timeout"), error) from error

    def _hear(self, event: tuple[float, Any]) -> None:
        message = event[1]
        action = message.get("action") if isinstance(message, dict) else None
        if action in ("add-worker", "remove-worker"):
            self._is_current = False
        if action == "add-worker":
            self._alive.add(message["worker"])
        if action == "remove-worker":
            self._lose(message["worker"])

    def _lose(self, address: str) -> None:
        self._departed.add(address)
        self._alive.discard(address)
        for host in (*self._hosts.values(), *self._foreign.values()):
            if host.address == address:
                host.lose()
        if (gone := self._hosts.pop(address, None)) is not None:
            self._foreign[gone.key] = gone  # whoever still has its address is told at once

    async def _make(self, address: str) -> None:
        host = self._hosts[address] = HostRef(self._runtime, address)
        try:
            await host.start()
            self._offered |= host.resources
        except NodeLostError:
            self._hosts.pop(address, None)
        except BaseException:
            self._hosts.pop(address, None)
            raise


def _turns(limit: float | None) -> Iterator[float]:
    """Yield how long each look for a worker takes, until the time is over [s]."""
    clock = asyncio.get_running_loop().time
    end = math.inf if limit is None else clock() + limit
    while (left := end - clock()) > 0:
        yield min(TURN, left)


def _silent(limit: float | None, error: OSError) -> ConnectionError:
    return ConnectionError(
        f"The scheduler must answer within {limit} s; it did not ({error!r}). "
        "Start it again and acquire a new runtime."
    )
