from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter

import psutil

from byzflow.engine.actor.calls import Call
from byzflow.engine.actor.channels import open_channel
from byzflow.engine.actor.factory import resolve_backend
from tests.engine.actor.subjects import AsyncSubject, Subject


def footprint() -> tuple[int, int]:
    gc.collect()
    return threading.active_count(), psutil.Process().num_fds()


def inventory() -> str:
    """Name what `footprint` counts."""
    process = psutil.Process()
    threads = Counter(thread.name.rstrip("0123456789") for thread in threading.enumerate())
    links = Counter(link.status for link in process.net_connections("all"))
    return f"threads {dict(threads)}, connections {dict(links)}, files {process.open_files()}"


async def settle_at(threads: int, descriptors: int) -> None:
    """Fail, and say what there is, unless the footprint comes back to this, maybe a moment late."""
    end = time.monotonic() + 30
    while (now := footprint())[0] > threads or now[1] > descriptors:
        assert time.monotonic() < end, f"{now} is more than {(threads, descriptors)}: {inventory()}"
        await asyncio.sleep(0.02)  # threads that end have no event here


def count_tasks(dask_scheduler) -> int:
    return len(dask_scheduler.tasks)


async def generation(spec) -> None:
    """Some objects with some calls and some mail, and all of it gone again."""
    backends = [resolve_backend(spec) for _ in range(6)]
    kinds = [Subject, AsyncSubject] * 3
    await asyncio.gather(*(b.construct(kind) for b, kind in zip(backends, kinds, strict=True)))
    ends = [await open_channel(backend, "mail") for backend in backends]
    await ends[0].send(ends[1].endpoint, 1)
    assert await ends[1].recv(timeout=20) == 1
    await backends[1].call("open")
    await backends[0].host.call_many([Call(b.object_id, "echo", (1,)) for b in backends[::2]])
    await asyncio.gather(*(backend.close() for backend in backends))


async def test_objects_that_come_and_go_leave_no_threads_and_no_descriptors(tcp_runtime, thread_runtime):
    for spec in (thread_runtime._spec, tcp_runtime._spec):
        for _ in range(3):
            await generation(spec)
        before = footprint()
        for _ in range(10):
            await generation(spec)
        await settle_at(before[0] + 4, before[1] + 9)  # fewer than one for each generation


async def test_runtimes_that_come_and_go_leave_no_threads_and_no_descriptors(monkeypatch):
    from byzflow.engine.actor.backends.dask import DaskActorBackend
    from byzflow.engine.actor.clusters import EMBEDDED, thread_cluster

    monkeypatch.setitem(EMBEDDED, "spare", thread_cluster)

    async def once() -> None:
        backend = DaskActorBackend("spare")
        await backend.construct(Subject)
        await backend.call("add", 1.0)
        await backend.close()

    for _ in range(2):
        await once()
    before = footprint()
    for _ in range(5):
        await once()
    await settle_at(before[0] + 4, before[1] + 4)  # fewer than one for each runtime


async def test_hundreds_of_rounds_keep_threads_descriptors_and_tasks_flat(tcp_runtime):
    backends = [resolve_backend(tcp_runtime._spec) for _ in range(4)]
    await asyncio.gather(*(backend.construct(Subject) for backend in backends))

    async def phase() -> None:
        hosts = {b.host: [c for c in backends if c.host is b.host] for b in backends}
        await asyncio.gather(
            *(host.call_many([Call(b.object_id, "add", (1.0,)) for b in own]) for host, own in hosts.items())
        )

    for _ in range(20):
        await phase()
    before = footprint()
    for _ in range(100):
        await phase()
    await settle_at(before[0] + 9, before[1] + 19)  # fewer than one for every ten rounds, or five
    assert tcp_runtime.client.run_on_scheduler(count_tasks) == len(await tcp_runtime.hosts())
    await asyncio.gather(*(backend.close() for backend in backends))
