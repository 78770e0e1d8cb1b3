"""Where workers come from: embedded clusters, one function each, and schedulers that run already."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import time
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import LocalCluster
from distributed.comm.core import connect
from distributed.core import Status
from distributed.security import Security
from distributed.utils import format_dashboard_link

from byzflow.engine.actor import tidying
from byzflow.engine.actor.calls import Recorder
from byzflow.engine.config import seconds, setting
from byzflow.exceptions import MissingExtraError, require

__all__ = (
    "EMBEDDED",
    "close",
    "cores",
    "dashboard_link",
    "gpu_cluster",
    "process_cluster",
    "require_scheduler",
    "revive",
    "thread_cluster",
)

UNGUARDED = (
    "Worker processes import the main script, so what starts them must stand under "
    '`if __name__ == "__main__":`. Put it there.'
)

# Dask has its workers give freed memory back at once. Then each temporary of some megabytes is made of fresh
# pages, which takes three times as long as the arithmetic on it. So does any of more than 64 MB in a thread
# that has an arena of its own. [bytes]
MALLOC = {"MALLOC_ARENA_MAX": 1, "MALLOC_MMAP_THRESHOLD_": 1 << 28, "MALLOC_TRIM_THRESHOLD_": 1 << 29}


_ENDED = (Status.closed, Status.failed)


def cores() -> int:
    """Return how many workers an embedded cluster has.

    Examples
    --------
    >>> cores() >= 1
    True
    """
    return int(setting("cluster.workers") or CPU_COUNT)


def thread_cluster() -> Any:
    """Start one worker inside this process: objects and data pass by reference.

    It has no log of its own to be silenced, and the levels of this process are the user's.
    """
    return LocalCluster(
        n_workers=1, threads_per_worker=cores(), processes=False, memory_limit=0,
        resources={"cpu": cores()}, **_quiet() | {"silence_logs": False},
    )  # fmt: skip


def process_cluster() -> Any:
    """Start one worker process per core, restarted by its nanny when it dies.

    Raises
    ------
    RuntimeError
        If the processes do not start, as when the script that starts them lacks a guard.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(UNGUARDED)
    try:
        with dask.config.set(
            {f"distributed.nanny.pre-spawn-environ.{name}": v for name, v in MALLOC.items()}
        ):
            return LocalCluster(
                n_workers=cores(), threads_per_worker=1, processes=True,
                memory_limit=setting("cluster.memory-limit"), resources={"cpu": 1}, **_preload(), **_quiet(),
            )  # fmt: skip
    except RuntimeError as error:
        raise RuntimeError(f"Worker processes had to start; they did not ({error}). {UNGUARDED}") from None


def gpu_cluster() -> Any:
    """Start one worker process per GPU.

    Raises
    ------
    MissingExtraError
        If dask-cuda cannot be imported, or finds no GPU.
    """
    dask_cuda = require("dask_cuda", extra="gpu")
    torch = require("torch", extra="gpu")
    if not torch.cuda.is_available():
        raise MissingExtraError(
            "The 'gpu' backend needs a CUDA device that torch can use; there is none here. "
            'Install a CUDA build with: pip install "byzflow[gpu]", or use the "process" backend.'
        )
    return dask_cuda.LocalCUDACluster(threads_per_worker=1, resources={"gpu": 1}, **_quiet())


def dashboard_link(cluster: Any) -> str | None:
    """Return where the dashboard of an embedded cluster is, or None if it has none."""
    port = cluster.scheduler_info["services"].get("dashboard")
    host = str(setting("cluster.dashboard")).rpartition(":")[0] or "127.0.0.1"
    return None if port is None else str(format_dashboard_link(host, port))


def revive(cluster: Any) -> None:
    """Replace the workers of an embedded cluster whose nannies gave up; call it on the cluster's loop.

    A nanny starts a process again that died, but closes itself if that one dies while it is starting.
    """
    ended = [name for name, worker in cluster.workers.items() if worker.status in _ENDED]
    for name in ended:
        del cluster.workers[name]
    if len(cluster.workers) < len(cluster.worker_spec):
        cluster.scale(len(cluster.worker_spec))


def close(cluster: Any) -> None:
    """Close an embedded cluster and end its loop, within ``byzflow.cluster.close-deadline``; blocks."""
    try:
        cluster.close(timeout=seconds("cluster.close-deadline"))
        return
    except KeyError:
        # Dask's watch over the workers fails when one leaves that came a moment before; close() says so at
        # its end, when all processes have ended.
        pass
    except TimeoutError:  # before Dask 2026.8 a nanny waits for ever for a worker that died as it started
        _kill(cluster)
    cluster.status = Status.closed
    cluster.close()


def _kill(cluster: Any) -> None:
    """Kill the worker processes that an embedded cluster still has."""
    for nanny in cluster.workers.values():
        pid = getattr(nanny, "pid", None)  # a worker in this process has none
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


EMBEDDED = {"gpu": gpu_cluster, "process": process_cluster, "thread": thread_cluster}


def require_scheduler(address: str, security: Security) -> None:
    """Knock at a scheduler, from a thread without a running loop.

    Raises
    ------
    ConnectionError
        If nothing that speaks its protocol answers within ``byzflow.comm.connect-timeout``.
    """
    limit = seconds("comm.connect-timeout")

    async def knock() -> None:
        async with asyncio.timeout(limit):
            comm = await connect(address, timeout=limit, **security.get_connection_args("client"))
            try:
                await comm.write({"op": "identity", "reply": True})
                await comm.read()
            finally:
                comm.abort()

    begin = time.monotonic()
    with Recorder() as record:  # what answers may be anything: a web server's bytes fail in many ways
        asyncio.run(knock())
    if record.error is not None:
        raise ConnectionError(
            f"A Dask scheduler must listen at {address}; none answered "
            f"({record.error!r}; waited {time.monotonic() - begin:.1f} s). "
            "Start one with: dask scheduler, or check address and TLS."
        ) from record.error


def _preload() -> dict[str, Any]:
    """Return what a worker process loads first: what the user has configured, then `tidying`."""
    known, argv = (dask.config.get(f"distributed.worker.{key}") for key in ("preload", "preload-argv"))
    modules = [known] if isinstance(known, str) else list(known)
    is_for_each = bool(argv) and isinstance(argv[0], list)
    return {"preload": [*modules, tidying.__name__], "preload_argv": [*argv, []] if is_for_each else argv}


def _quiet() -> dict[str, Any]:
    return {"dashboard_address": setting("cluster.dashboard"), "silence_logs": logging.CRITICAL}
