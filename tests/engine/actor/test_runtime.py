from __future__ import annotations

import asyncio
import threading
import urllib.request

import dask
import psutil
import pytest
from distributed import Client, LocalCluster
from distributed.comm.core import CommClosedError
from distributed.core import Status
from distributed.scheduler import WorkerStatusPlugin

from byzflow.engine.actor.clusters import EMBEDDED, thread_cluster
from byzflow.engine.actor.connection import Connection
from byzflow.engine.actor.factory import resolve_backend
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.actor.runtime import Runtime
from byzflow.exceptions import NodeLostError
from tests.engine.actor.subjects import Subject

SHORT = {"byzflow.comm.connect-timeout": "400ms"}
LOCAL = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}


async def answer(value=1):
    await asyncio.sleep(0)
    return value


@pytest.fixture
def spare(monkeypatch) -> str:
    """A backend string that no other test uses."""
    monkeypatch.setitem(EMBEDDED, "spare", thread_cluster)
    return "spare"


async def test_users_of_one_string_share_one_runtime(spare):
    first, second = await asyncio.gather(Runtime.acquire(spare), Runtime.acquire(spare))
    assert first is second
    await first.release()
    assert await second.workers()
    await second.release()


async def test_the_last_user_closes_and_the_next_one_starts_afresh(spare):
    first = await Runtime.acquire(spare)
    await first.release()
    assert first.client.status == "closed"
    second = await Runtime.acquire(spare)
    assert second is not first
    await second.release()


async def test_a_runtime_that_could_not_start_does_not_stay(monkeypatch):
    def broken():
        raise OSError("no room")

    monkeypatch.setitem(EMBEDDED, "broken", broken)
    with pytest.raises(OSError, match="no room"):
        await Runtime.acquire("broken")
    monkeypatch.setitem(EMBEDDED, "broken", thread_cluster)
    await (await Runtime.acquire("broken")).release()


async def test_a_cancelled_acquire_leaves_nothing_open(spare):
    task = asyncio.ensure_future(Runtime.acquire(spare))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(key[0] == spare for key in Runtime._live)


def test_what_is_still_open_is_closed_at_exit(spare):
    runtime = asyncio.run(Runtime.acquire(spare))
    runtime._close_at_exit()
    assert runtime.client.status == "closed"


def test_threads_of_several_loops_share_it_too(thread_runtime):
    found: list[Runtime] = []

    def user() -> None:
        async def body() -> None:
            runtime = await Runtime.acquire("thread")
            found.append(runtime)
            assert await runtime.run(answer, 5) == 5
            await runtime.release()

        asyncio.run(body())

    threads = [threading.Thread(target=user) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [thread_runtime] * 4


async def test_run_sync_works_inside_a_running_loop(thread_runtime):
    assert thread_runtime.run_sync(answer, value=3) == 3


async def test_run_sync_on_the_clients_own_loop_is_refused_instead_of_hanging(thread_runtime):
    async def wrong():
        return thread_runtime.run_sync(answer)

    with pytest.raises(RuntimeError, match="loop of the Dask client"):
        await thread_runtime.run(wrong)


async def test_cancelling_run_cancels_what_runs(thread_runtime):
    begun, ended = threading.Event(), threading.Event()

    async def forever():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.ensure_future(thread_runtime.run(forever))
    await asyncio.to_thread(begun.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 20)


async def test_exceptions_of_run_keep_their_type(thread_runtime):
    async def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        await thread_runtime.run(fail)


async def test_the_dashboard_answers_at_its_link(thread_runtime):
    def status() -> int:
        with urllib.request.urlopen(thread_runtime.dashboard_link, timeout=10) as page:
            return page.status

    assert await asyncio.to_thread(status) == 200


async def test_an_embedded_client_does_not_become_the_default_one(thread_runtime):
    with pytest.raises(ValueError, match="No clients found"):
        Client.current()


async def test_a_scheduler_that_is_not_there_is_a_connection_error_in_time():
    with dask.config.set(SHORT):
        async with asyncio.timeout(20):
            with pytest.raises(
                ConnectionError, match=r"must listen at tcp://127.0.0.1:9; none answered \(\w+\("
            ):
                await Runtime.acquire("tcp://127.0.0.1:9")
    assert not any(key[0] == "tcp://127.0.0.1:9" for key in Runtime._live)


async def test_something_else_at_the_address_is_a_connection_error():
    async def web_server(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n" + b"x" * 100)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(web_server, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with dask.config.set(SHORT), pytest.raises(ConnectionError, match="none answered"):
            await Runtime.acquire(f"tcp://127.0.0.1:{port}")


async def use(spec) -> None:
    backend = resolve_backend(spec)
    await backend.start()
    await backend.construct(Subject, args=(1.0,))
    assert await backend.call("add", 1.0) == 2.0
    await backend.close()


async def test_an_asynchronous_client_of_the_users_is_used_and_left_open():
    async with Client(asynchronous=True, **LOCAL) as client:
        await use(client)
        assert client.status == "running"
        assert await client.submit(lambda: 7) == 7


def test_a_synchronous_client_of_the_users_is_used_and_left_open():
    with Client(**LOCAL) as client:
        asyncio.run(use(client))
        assert client.submit(lambda: 7).result() == 7


def test_a_synchronous_cluster_of_the_users_is_used_and_left_open():
    with LocalCluster(**LOCAL) as cluster:
        asyncio.run(use(cluster))
        assert cluster.status.name == "running"


async def test_an_asynchronous_cluster_of_the_users_is_used_and_left_open():
    async with LocalCluster(asynchronous=True, **LOCAL) as cluster:
        await use(cluster)
        assert cluster.status.name == "running"


async def test_the_users_own_event_handler_survives():
    async with Client(asynchronous=True, **LOCAL) as client:
        heard = asyncio.Event()
        client.subscribe_topic("all", lambda event: event[1].get("mine") and heard.set())
        await use(client)
        await client.log_event("all", {"mine": True})
        await asyncio.wait_for(heard.wait(), 20)
        client.unsubscribe_topic("all")


async def test_there_is_one_host_on_each_worker_and_it_is_made_once(tcp_runtime):
    first, second = await asyncio.gather(tcp_runtime.hosts(), tcp_runtime.hosts())
    assert list(first) == await tcp_runtime.workers()
    assert first == second


async def test_hosts_that_were_not_made_as_their_caller_was_cancelled_are_made_for_the_next(monkeypatch):
    start, one_is_made, other_is_begun = HostRef.start, asyncio.Event(), asyncio.Event()
    begun: list[HostRef] = []

    async def start_one(host: HostRef) -> None:
        begun.append(host)
        if len(begun) == 1:
            await start(host)
            one_is_made.set()
        else:
            await one_is_made.wait()
            other_is_begun.set()
            await asyncio.Event().wait()

    async with LocalCluster(asynchronous=True, **LOCAL) as cluster:
        runtime = await Runtime.acquire(cluster)
        monkeypatch.setattr(HostRef, "start", start_one)
        making = asyncio.create_task(runtime.hosts())
        await other_is_begun.wait()
        making.cancel()
        await asyncio.wait([making])
        monkeypatch.setattr(HostRef, "start", start)
        assert list(await runtime.hosts()) == await runtime.workers()
        await runtime.release()


async def test_calls_of_a_worker_that_leaves_fail():
    async with LocalCluster(asynchronous=True, **LOCAL) as cluster:
        runtime = await Runtime.acquire(cluster)
        backend = resolve_backend(cluster)
        await backend.construct(Subject)
        name = next(name for name, w in cluster.workers.items() if w.address == backend.host.address)
        stuck = asyncio.ensure_future(backend.call("hang"))
        await cluster.workers[name].close()
        with pytest.raises(RuntimeError, match="is gone"):
            await asyncio.wait_for(stuck, 20)
        assert backend.host.lost
        assert list(await runtime.hosts()) == await runtime.workers()
        await backend.close()
        await runtime.release()


@pytest.mark.processes
async def test_workers_whose_nannies_gave_up_are_replaced():
    with dask.config.set({"byzflow.cluster.workers": 2, "byzflow.comm.connect-timeout": "120s"}):
        runtime = await Runtime.acquire("process")
        try:
            before = await runtime.hosts()
            nannies = tuple(runtime.client.cluster.workers.values())
            await runtime.run(lambda: asyncio.gather(*(nanny.close() for nanny in nannies)))
            await asyncio.wait_for(runtime.run(asyncio.wait, [host._lost for host in before.values()]), 20)
            after = await runtime.hosts()
            assert after
            assert not set(after) & set(before)
        finally:
            await runtime.release()


def test_a_cluster_that_lost_count_of_its_workers_is_closed_all_the_same():
    connection = Connection("thread", None)
    connection.open()
    cluster = connection.client.cluster
    (watch,) = (p for p in cluster.scheduler.plugins.values() if isinstance(p, WorkerStatusPlugin))
    cluster.sync(_call, watch.remove_worker, cluster.scheduler, "inproc://never/heard/of")
    connection.close()
    assert cluster.status == Status.closed
    assert not cluster.loop.asyncio_loop.is_running()


@pytest.mark.processes
def test_a_cluster_whose_nanny_waits_for_ever_is_closed_all_the_same(monkeypatch):
    with dask.config.set({"byzflow.cluster.workers": 1, "byzflow.cluster.close-deadline": 0.5}):
        connection = Connection("process", None)
        connection.open()
        cluster = connection.client.cluster
        (nanny,) = cluster.workers.values()
        process = psutil.Process(nanny.pid)

        async def never(*args, **kwargs):
            await asyncio.Event().wait()

        monkeypatch.setattr(nanny, "close", never)
        connection.close()
    assert cluster.status == Status.closed
    assert not cluster.loop.asyncio_loop.is_running()
    process.wait(20)


async def _call(fn, *args):
    fn(*args)


async def test_a_client_that_is_closed_is_refused():
    async with Client(asynchronous=True, **LOCAL) as client:
        pass
    with pytest.raises(ConnectionError, match="this one is closed"):
        await Runtime.acquire(client)


def test_closing_a_backend_after_its_client_is_quiet():
    backend = None
    with Client(**LOCAL) as client:
        backend = resolve_backend(client)
        asyncio.run(backend.construct(Subject))
    asyncio.run(backend.close())
    with Client(**LOCAL) as client:
        backend = resolve_backend(client)
        asyncio.run(backend.construct(Subject))
        client.close()
        with pytest.raises(NodeLostError):
            asyncio.run(backend.call("add", 1.0))
        asyncio.run(backend.close())


async def test_closing_a_backend_after_its_asynchronous_client_is_quiet():
    async with Client(asynchronous=True, **LOCAL) as client:
        backend = resolve_backend(client)
        await backend.construct(Subject)
    await asyncio.wait_for(backend.close(), 30)


async def test_a_scheduler_without_workers_is_a_timeout_that_says_what_to_start():
    async with LocalCluster(
        asynchronous=True, n_workers=0, processes=False, dashboard_address=":0"
    ) as cluster:
        backend = resolve_backend(cluster)
        await backend.start()
        with dask.config.set(SHORT), pytest.raises(TimeoutError, match="dask worker ADDRESS"):
            await backend.construct(Subject)
        await backend.close()


async def test_who_waits_for_a_worker_holds_up_nobody():
    async with LocalCluster(
        asynchronous=True, n_workers=0, processes=False, dashboard_address=":0"
    ) as cluster:
        runtime = await Runtime.acquire(cluster)
        with dask.config.set({"byzflow.comm.connect-timeout": 60.0}):
            waiting = [asyncio.ensure_future(runtime.place()) for _ in range(3)]
            with pytest.raises(TimeoutError, match="it has none"):
                await asyncio.wait_for(runtime.place(patience=0.0), 20)
            assert not any(task.done() for task in waiting)
            cluster.scale(1)
            assert len({host.address for host in await asyncio.wait_for(asyncio.gather(*waiting), 30)}) == 1
        await runtime.release()


async def test_a_scheduler_that_goes_while_a_worker_is_waited_for_is_a_connection_error(monkeypatch):
    async def gone(*args, **kwargs):
        raise CommClosedError

    async with LocalCluster(
        asynchronous=True, n_workers=0, processes=False, dashboard_address=":0"
    ) as cluster:
        runtime = await Runtime.acquire(cluster)
        monkeypatch.setattr(runtime.client, "wait_for_workers", gone)
        with pytest.raises(ConnectionError, match="Start it again"):
            await runtime.place()
        await runtime.release()


async def test_a_scheduler_that_goes_away_is_a_connection_error_and_not_a_hang():
    cluster = await LocalCluster(asynchronous=True, protocol="tcp", **LOCAL)
    runtime = await Runtime.acquire(cluster.scheduler_address)
    assert len(await runtime.workers()) == 2
    await cluster.close()
    with dask.config.set(SHORT), pytest.raises(ConnectionError, match="scheduler must answer"):
        await asyncio.wait_for(runtime.workers(), 30)
    await asyncio.wait_for(runtime.release(), 30)


@pytest.mark.parametrize(("goes", "kind"), [(True, NodeLostError), (False, RuntimeError)])
async def test_a_worker_that_goes_while_its_host_is_made_is_lost(thread_runtime, monkeypatch, goes, kind):
    async def doomed():
        if goes:
            host.lose()
        raise RuntimeError("Worker holding Actor was lost")

    host = HostRef(thread_runtime, (await thread_runtime.workers())[0])
    monkeypatch.setattr(thread_runtime.client, "submit", lambda *args, **options: doomed())
    with dask.config.set({"byzflow.host.settle": "10ms"}), pytest.raises(kind, match="was lost"):
        await thread_runtime.run(host._create)
