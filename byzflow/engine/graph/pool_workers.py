"""The workers of a pool: their configuration, their names, and who of them is idle."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from byzflow.engine.actor.backends.gpu import GPUActorBackend, UCXRemoteActorBackend
from byzflow.engine.actor.base import ActorBackend
from byzflow.operators.checks import nonnegative, several

__all__ = ("ActorPoolConfig", "PoolWorker", "Roster", "SubtaskRunner", "name_workers")

ADD = "Give the pool a worker with the capability that the subtask's affinity names."
AGAIN = "Shut the pool down and start it again when the cluster has a worker for that."


@dataclass(frozen=True)
class ActorPoolConfig:
    """A group of equal workers.

    Parameters
    ----------
    backend : str or ActorBackend
        What `resolve_backend` takes.
    count : int, default 1
        Workers in the group.
    capabilities : sequence of str, optional
        What subtasks may ask for by `affinity`; default ``("gpu",)`` for GPU and UCX backends, else
        ``("cpu",)``. Of a cluster where some Dask workers have resources of these names, such are used; what
        is only a default ``"cpu"`` may be done by any.
    name : str, optional
        Prefix of the workers' names; default ``"actor"``.

    Examples
    --------
    >>> ActorPoolConfig("thread", count=2).resolved_capabilities()
    ('cpu',)
    """

    backend: str | ActorBackend
    count: int = 1
    capabilities: Sequence[str] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        nonnegative("count", self.count)
        if self.capabilities is not None:
            several("capabilities", self.capabilities)

    def resolved_capabilities(self) -> tuple[str, ...]:
        """Return the capabilities given, or those that the backend implies."""
        return _infer_capabilities(self.backend) if self.capabilities is None else tuple(self.capabilities)


def _infer_capabilities(backend: Any) -> tuple[str, ...]:
    if isinstance(backend, str):
        has_gpu = backend == "gpu" or backend.startswith("ucx://")
    else:
        has_gpu = isinstance(backend, GPUActorBackend | UCXRemoteActorBackend)
    return ("gpu",) if has_gpu else ("cpu",)


class SubtaskRunner:
    """The object that lives on each worker of a pool.

    Examples
    --------
    >>> SubtaskRunner().run(max, (1, 2), {})
    2
    """

    def run(self, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call ``fn(*args, **kwargs)``."""
        return fn(*args, **kwargs)


@dataclass(eq=False)
class PoolWorker:
    """One worker: a name, what it can do, and the backend that does it."""

    name: str
    config: ActorPoolConfig
    backend: ActorBackend | None = None

    @property
    def tag(self) -> str:
        """The capability that only this worker has."""
        return f"worker::{self.name}"

    def can(self, affinity: str | None) -> bool:
        """Whether a subtask with this affinity may run here."""
        return affinity is None or affinity == self.tag or affinity in self.config.resolved_capabilities()

    async def start(self, backend: ActorBackend) -> None:
        """Put a runner behind `backend`, and use that from now on; if it fails, the one before stays."""
        try:
            await backend.start()
            await backend.construct(SubtaskRunner, args=(), kwargs={})
        except BaseException:
            await backend.close()
            raise
        self.backend = backend

    async def run(self, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run one subtask."""
        if self.backend is None:
            raise RuntimeError(
                f"A subtask needs a started worker; {self.name} was shut down. Start the pool again."
            )
        return await self.backend.call("run", fn, tuple(args), dict(kwargs))

    async def close(self) -> None:
        """Close the backend; again is the same as once."""
        backend, self.backend = self.backend, None
        if backend is not None:
            await backend.close()


def name_workers(configs: Iterable[ActorPoolConfig]) -> list[PoolWorker]:
    """Return the workers that `configs` ask for, each with a name of its own.

    Examples
    --------
    >>> [w.name for w in name_workers([ActorPoolConfig("thread", 2), ActorPoolConfig("thread")])]
    ['actor-0', 'actor-1', 'actor-2']
    """
    numbers: Counter[str] = Counter()
    workers = []
    for config in configs:
        prefix = config.name or "actor"
        for _ in range(config.count):
            workers.append(PoolWorker(f"{prefix}-{numbers[prefix]}", config))
            numbers[prefix] += 1
    return workers


@dataclass(eq=False)
class _Waiter:
    affinity: str | None
    worker: Future[PoolWorker] = field(default_factory=Future)


class Roster:
    """Idle workers and those who wait for one, first come, first served; safe across threads and loops."""

    def __init__(self) -> None:
        self.workers: list[PoolWorker] = []
        self._idle: list[PoolWorker] = []
        self._waiting: deque[_Waiter] = deque()
        self._lost: list[PoolWorker] = []
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()  # the workers stay where they are

    @property
    def idle(self) -> int:
        """Workers without a subtask."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Subtasks without a worker."""
        return len(self._waiting)

    def open(self, workers: Iterable[PoolWorker]) -> None:
        """Take up work with these workers."""
        with self._lock:
            self.workers = list(workers)
            self._idle, self._lost = list(self.workers), []

    def close(self) -> list[PoolWorker]:
        """End work: whoever waits gets a `RuntimeError`. Return the workers that there were."""
        with self._lock:
            workers, self.workers, self._idle = self.workers, [], []
            waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if waiter.worker.set_running_or_notify_cancel():
                waiter.worker.set_exception(_nobody("the pool was shut down"))
        return workers

    def remove(self, worker: PoolWorker) -> bool:
        """Do without a worker that is gone, and say whether it was the last one of these.

        Those whom only it could serve get a `RuntimeError`.
        """
        with self._lock:
            was_last = self.workers == [worker]
            self._lost.append(worker)
            self.workers = [other for other in self.workers if other is not worker]
            stuck = [w for w in self._waiting if not any(o.can(w.affinity) for o in self.workers)]
            self._waiting = deque(w for w in self._waiting if w not in stuck)
        for waiter in stuck:
            if waiter.worker.set_running_or_notify_cancel():
                waiter.worker.set_exception(_nobody(f"{worker.name} was lost", AGAIN))
        return was_last

    def replaces(self, worker: PoolWorker, affinity: str | None) -> bool:
        """Whether a worker is gone, and there are others that can do `affinity`."""
        with self._lock:
            return worker not in self.workers and any(other.can(affinity) for other in self.workers)

    async def acquire(self, affinity: str | None) -> PoolWorker:
        """Return an idle worker that can do `affinity`, waiting for one if all are busy.

        Raises
        ------
        RuntimeError
            If no worker of the pool ever could.
        """
        with self._lock:
            if not any(worker.can(affinity) for worker in self.workers):
                raise self._nobody(affinity)
            for worker in self._idle:
                if worker.can(affinity):
                    self._idle.remove(worker)
                    return worker
            waiter = _Waiter(affinity)
            self._waiting.append(waiter)
        try:
            return await asyncio.wrap_future(waiter.worker)
        except asyncio.CancelledError:
            if not waiter.worker.cancel() and waiter.worker.exception() is None:
                self.release(waiter.worker.result())
            raise

    def release(self, worker: PoolWorker) -> None:
        """Hand a worker to the first who waits for one like it, or note it as idle."""
        with self._lock:
            if worker not in self.workers:
                return
            for waiter in tuple(self._waiting):
                if worker.can(waiter.affinity):
                    self._waiting.remove(waiter)
                    if waiter.worker.set_running_or_notify_cancel():
                        waiter.worker.set_result(worker)
                        return
            self._idle.append(worker)

    def _nobody(self, affinity: str | None) -> RuntimeError:
        reason = "it has no workers" if affinity is None else f"none can do {affinity!r}"
        lost = ", ".join(worker.name for worker in self._lost if worker.can(affinity))
        return _nobody(f"{reason}, since {lost} was lost", AGAIN) if lost else _nobody(reason)


def _nobody(reason: str, hint: str = ADD) -> RuntimeError:
    return RuntimeError(f"No actor in the pool can take this subtask: {reason}. {hint}")
