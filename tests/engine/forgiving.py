"""Clusters of tests that close workers under Dask's feet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from distributed import LocalCluster

__all__ = ("forgiving_cluster",)


@asynccontextmanager
async def forgiving_cluster(n_workers: int) -> AsyncIterator[LocalCluster]:
    """Workers of one thread in this process, over TCP, that close though the watch of workers has failed.

    That ends with a KeyError where Dask hears that a worker goes of which it has not heard that it came, as
    on a busy machine, and closing would raise it again.
    """
    async with LocalCluster(
        n_workers=n_workers, threads_per_worker=1, processes=False, protocol="tcp", asynchronous=True,
        dashboard_address=":0",
    ) as cluster:  # fmt: skip
        yield cluster
        watch = cluster._watch_worker_status_task
        if watch is not None and watch.done() and isinstance(watch.exception(), KeyError):
            cluster._watch_worker_status_task = None
