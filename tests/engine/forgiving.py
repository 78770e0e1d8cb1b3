"""Clusters of tests that close workers under Dask's feet."""

from __future__ import annotations

from typing import Any


def forgive(cluster: Any) -> None:
    """Let a cluster close though its watch of workers has failed.

    That ends with a KeyError where Dask hears that a worker goes of which it has not heard that it came, as
    on a busy machine, and closing would raise it again.
    """
    watch = cluster._watch_worker_status_task
    if watch is not None and watch.done() and isinstance(watch.exception(), KeyError):
        cluster._watch_worker_status_task = None
