"""One embedded cluster of each kind for all tests of this folder: backends share what is already open."""

from __future__ import annotations

from collections.abc import Iterator

import dask
import pytest
from distributed import LocalCluster

from byzflow.engine.actor.runtime import Runtime
from byzflow.engine.node.sync import run_sync


def _held(spec) -> Iterator[Runtime]:
    runtime = run_sync(Runtime.acquire(spec))
    yield runtime
    run_sync(runtime.release())


@pytest.fixture(scope="package")
def thread_runtime() -> Iterator[Runtime]:
    yield from _held("thread")


@pytest.fixture(scope="package")
def process_runtime() -> Iterator[Runtime]:
    yield from _held("process")


@pytest.fixture(autouse=True)
def patient() -> Iterator[None]:
    """Workers that tests have killed may all be starting again on a busy machine."""
    with dask.config.set({"byzflow.comm.connect-timeout": "60s"}):
        yield


@pytest.fixture(scope="package")
def tcp_address() -> Iterator[str]:
    """The address of a scheduler that somebody else has started, with two workers over TCP."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="package")
def tcp_runtime(tcp_address: str) -> Iterator[Runtime]:
    yield from _held(tcp_address)
