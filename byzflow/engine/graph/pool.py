"""The actor pool: subtasks go to idle workers that can do them, and survive the loss of one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.base import ActorBackend
from byzflow.engine.actor.calls import Recorder
from byzflow.engine.actor.factory import check_backend, resolve_backend
from byzflow.engine.config import seconds
from byzflow.engine.graph.once import Once
from byzflow.engine.graph.pool_channel import ActorPoolChannel, bound
from byzflow.engine.graph.pool_workers import (
    ActorPoolConfig,
    PoolWorker,
    Roster,
    _infer_capabilities,
    name_workers,
)
from byzflow.exceptions import NodeLostError
from byzflow.operators.base import SubTask
from byzflow.operators.checks import several
from byzflow.operators.together import together

if TYPE_CHECKING:
    from byzflow.engine.actor.runtime import Runtime

__all__ = ("ActorPool", "ActorPoolChannel", "ActorPoolConfig", "PoolStatistics", "_infer_capabilities")

REVIVALS = 3  # workers that one subtask may outlive


class PoolStatistics(NamedTuple):
    """What a pool is doing and has done, in workers and subtasks."""

    size: int
    idle: int
    waiting: int
    completed: int
    failed: int
    retried: int
    revived: int


class ActorPool:
    """Workers that run subtasks side by side.

    A pool that is pickled, or copied in depth, is another one of the same configs, which has not started.

    Parameters
    ----------
    configs : sequence of ActorPoolConfig, or one
        Groups of workers; they may differ in backend and in what they can do.

    Examples
    --------
    >>> from byzflow.operators.base import SubTask
    >>> async def example():
    ...     async with ActorPool([ActorPoolConfig("thread", count=2)]) as pool:
    ...         return await pool.run_many([SubTask(pow, (2, n)) for n in range(4)])
    >>> asyncio.run(example())
    [1, 2, 4, 8]
    """

    def __init__(self, configs: Sequence[ActorPoolConfig] | ActorPoolConfig) -> None:
        self.configs = _checked(configs)
        self._roster = Roster()
        self._once = Once()
        self._channels: dict[str, ActorPoolChannel] = {}
        self._leaving: dict[PoolWorker | ActorPoolChannel, None] = {}
        self._completed = self._failed = self._retried = self._revived = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_channels": {}, "_leaving": {}}

    def __repr__(self) -> str:
        return f"<ActorPool {self.statistics()}>"

    async def __aenter__(self) -> ActorPool:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    @property
    def size(self) -> int:
        """Workers: the live ones, or before the start those asked for."""
        return len(self._roster.workers) or sum(config.count for config in self.configs)

    @property
    def runtime(self) -> Runtime | None:
        """The runtime that all workers share, or None if they are not all on one Dask cluster."""
        found = {getattr(worker.backend, "runtime", None) for worker in self._roster.workers}
        return found.pop() if len(found) == 1 else None

    @property
    def worker_addresses(self) -> tuple[str, ...]:
        """Addresses of the Dask workers behind the pool, each once, in the order of the pool's workers."""
        hosts = (getattr(worker.backend, "host", None) for worker in self._roster.workers)
        return tuple(dict.fromkeys(host.address for host in hosts if host is not None))

    def worker_affinities(self) -> tuple[str, ...]:
        """Return the capability that pins a subtask to a worker, for each; empty before the start."""
        return tuple(worker.tag for worker in self._roster.workers)

    def statistics(self) -> PoolStatistics:
        """Return the counters of this moment."""
        return PoolStatistics(
            self.size, self._roster.idle, self._roster.waiting,
            self._completed, self._failed, self._retried, self._revived,
        )  # fmt: skip

    async def start(self) -> None:
        """Start the workers, once, however many callers ask at the same time.

        Raises
        ------
        ValueError
            If a backend string is not one.
        ConnectionError
            If a scheduler cannot be reached.
        """
        await self._once.open(self._start)

    async def shutdown(self) -> None:
        """Close the workers; whoever waits for one gets a `RuntimeError`. The pool can be started again.

        If it is cancelled, the next call closes what is left.
        """
        await self._once.close(self._retire)
        await asyncio.gather(*map(self._part, tuple(self._leaving)))

    async def run_subtask(self, subtask: SubTask) -> Any:
        """Run one subtask on a worker that has its affinity, trying again as often as it allows.

        A subtask whose worker is lost runs again on a fresh one, or on another of the pool's if there is none
        within ``byzflow.host.return-deadline``; that does not count as a retry. When the pool has lost its
        last worker so, the next subtask starts all of them again.

        Raises
        ------
        RuntimeError
            If no worker of the pool can do it.
        Exception
            The last thing that the subtask raised.
        """
        if not isinstance(subtask, SubTask):
            raise TypeError(
                f"A pool runs a SubTask; got {type(subtask).__name__}. Wrap a function: SubTask(fn, args)."
            )
        await self.start()
        retries = subtask.max_retries
        while True:
            worker = await self._acquire(subtask.affinity)
            try:
                record, value = await self._attempt(worker, subtask)
            finally:
                self._roster.release(worker)
            if record.error is None:
                self._completed += 1
                return value
            if isinstance(record.error, NodeLostError) and self._roster.replaces(worker, subtask.affinity):
                continue
            if not isinstance(record.error, Exception) or not retries:
                self._failed += 1
                raise record.error
            retries -= 1
            self._retried += 1

    async def run_many(self, subtasks: Iterable[SubTask]) -> list[Any]:
        """Run subtasks side by side; results in the order given. The first error ends the others."""
        chosen = several("subtasks", subtasks)
        await self.start()
        return await together(map(self.run_subtask, chosen))

    async def open_channel(self, name: str) -> ActorPoolChannel:
        """Bind a channel on every worker; the same name gives the same channel.

        Its mailboxes outlive the Dask workers on which they are; see `ActorPoolChannel`.
        """
        await self.start()
        if name not in self._channels:
            backends = {worker.name: worker.backend for worker in self._roster.workers}
            made = await bound(name, {worker: backend for worker, backend in backends.items() if backend})
            if self._channels.setdefault(name, made) is not made:  # another call was faster
                await made.close()
        return self._channels[name]

    async def _start(self) -> None:
        workers = name_workers(self.configs)
        seen: list[Any] = []
        try:
            backends = [_backend(worker.config, seen) for worker in workers]
            starts = (worker.start(backend) for worker, backend in zip(workers, backends, strict=True))
            results = await asyncio.gather(*starts, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        except BaseException:
            await _close(workers)
            raise
        self._roster.open(workers)

    def _retire(self) -> None:
        channels, self._channels = self._channels, {}
        self._leaving.update(dict.fromkeys([*channels.values(), *self._roster.close()]))

    def _desert(self) -> None:
        """Have the next subtask start workers again, for which channels stay, or `shutdown` close those."""
        self._leaving.update(dict.fromkeys(self._channels.values()))

    async def _part(self, leaving: PoolWorker | ActorPoolChannel) -> None:
        await leaving.close()
        self._leaving.pop(leaving, None)
        self._channels = {name: kept for name, kept in self._channels.items() if kept is not leaving}

    async def _acquire(self, affinity: str | None = None) -> PoolWorker:
        return await self._roster.acquire(affinity)

    async def _attempt(self, worker: PoolWorker, subtask: SubTask) -> tuple[Recorder, Any]:
        """Run a subtask once to its end, on as many fresh hosts as it takes, up to a limit."""
        for left in reversed(range(REVIVALS + 1)):
            value: Any = None
            with Recorder() as record:
                value = await worker.run(subtask.fn, subtask.args, subtask.kwargs)
            if not isinstance(record.error, NodeLostError):
                break
            if not await self._revive(worker) or not left:
                break
        return record, value

    async def _revive(self, worker: PoolWorker) -> bool:
        """Put a lost worker on a live host; without one, the pool goes on with the others."""
        lost = worker.backend  # which stays, and says so, if this is cancelled or that host is lost as well
        try:
            await worker.start(_backend(worker.config, [worker.config.backend], _patience()))
        except NodeLostError:
            return True
        except (ConnectionError, TimeoutError):
            await worker.close()
            if self._roster.remove(worker):
                await self._once.close(self._desert)
            return False
        if lost is not None:
            await lost.close()
        self._revived += 1
        return True


def _checked(configs: Any) -> tuple[ActorPoolConfig, ...]:
    is_many = isinstance(configs, Iterable) and not isinstance(configs, str)
    given = tuple(configs) if is_many else (configs,)
    for config in given:
        if not isinstance(config, ActorPoolConfig):
            raise TypeError(
                f"configs must be a list of ActorPoolConfig; got {type(config).__name__}. "
                'Pass [ActorPoolConfig("thread", count=2)], or the like.'
            )
    return given


def _backend(config: ActorPoolConfig, seen: list[Any], patience: float | None = None) -> ActorBackend:
    """Resolve a backend; one given as an object serves one worker, its likes serve the others."""
    backend = resolve_backend(config.backend)
    check_backend(backend)
    if isinstance(backend, DaskActorBackend):
        backend = backend.clone() if any(backend is other for other in seen) else backend
        backend.needs, backend.patience = _needs(config), patience
    seen.append(backend)
    return backend


def _needs(config: ActorPoolConfig) -> frozenset[str]:
    """Return the resources that a worker has to have: "cpu", which nobody asked for, every one has."""
    capabilities = frozenset(config.resolved_capabilities())
    return capabilities - {"cpu"} if config.capabilities is None else capabilities


def _patience() -> float:
    """Return how long a lost worker is waited for: nannies need longer than who looks for a first one."""
    limits = (seconds("comm.connect-timeout"), seconds("host.return-deadline"))
    return max(math.inf if limit is None else limit for limit in limits)


async def _close(workers: Iterable[PoolWorker]) -> None:
    await asyncio.gather(*(worker.close() for worker in workers))
