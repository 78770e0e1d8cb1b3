from __future__ import annotations

import asyncio
import os
import threading

import dask
import numpy as np
import psutil
import pytest
import torch
from distributed import Client, Scheduler, Worker, get_worker

import byzflow.engine.graph.pool as pool_module
from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.backends.gpu import GPUActorBackend, UCXRemoteActorBackend
from byzflow.engine.actor.backends.thread import ThreadActorBackend
from byzflow.engine.actor.channels import Endpoint
from byzflow.engine.actor.clusters import EMBEDDED, process_cluster
from byzflow.engine.actor.runtime import Runtime
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.exceptions import NodeLostError
from byzflow.operators.base import OpContext, Operator, SubTask
from tests.engine.actor.subjects import die_among, scribble


def square(x):
    return x * x


class Fake:
    """A backend with no more than start, construct, call and close."""

    made: list[Fake]

    def __init__(self) -> None:
        self.events: list[str] = []
        Fake.made.append(self)

    async def start(self):
        self.events.append("start")
        await asyncio.sleep(0)

    async def construct(self, cls_or_factory, *, args, kwargs):
        self.events.append("construct")
        self.subject = cls_or_factory(*args, **kwargs)

    async def call(self, method, *args, **kwargs):
        await asyncio.sleep(0)
        return getattr(self.subject, method)(*args, **kwargs)

    async def close(self):
        self.events.append("close")


async def begun(pool):
    """Give a subtask the turns of the loop that it needs to get in line."""
    for _ in range(10):
        await asyncio.sleep(0)
    assert pool.statistics().waiting == 1


@pytest.fixture
def fakes(monkeypatch):
    Fake.made = []
    monkeypatch.setattr(pool_module, "resolve_backend", lambda spec: Fake())
    return Fake.made


async def test_run_many_keeps_the_order(fakes):
    async with ActorPool([ActorPoolConfig("any", count=3)]) as pool:
        assert await pool.run_many([SubTask(square, (n,)) for n in range(20)]) == [n * n for n in range(20)]


async def test_concurrent_starts_start_each_worker_once(fakes):
    pool = ActorPool([ActorPoolConfig("any", count=2)])
    await asyncio.gather(*(pool.start() for _ in range(5)), pool.run_many([]))
    assert [fake.events for fake in fakes] == [["start", "construct"]] * 2
    await pool.shutdown()
    assert fakes[0].events[-1] == "close"


async def test_workers_of_two_unnamed_groups_have_names_of_their_own(fakes):
    async with ActorPool(
        [ActorPoolConfig("any", 2), ActorPoolConfig("any"), ActorPoolConfig("any", name="x")]
    ) as pool:
        assert pool.worker_affinities() == (
            "worker::actor-0", "worker::actor-1", "worker::actor-2", "worker::x-0",
        )  # fmt: skip


async def test_size_is_what_was_asked_for_and_then_what_lives(fakes):
    pool = ActorPool([ActorPoolConfig("any", count=2), ActorPoolConfig("any")])
    assert (pool.size, pool.worker_affinities()) == (3, ())
    await pool.start()
    assert pool.size == 3
    await pool.shutdown()
    await pool.shutdown()
    assert (pool.size, pool.worker_affinities()) == (3, ())


async def test_a_pool_can_be_started_again(fakes):
    pool = ActorPool([ActorPoolConfig("any")])
    for _ in range(2):
        assert await pool.run_subtask(SubTask(square, (3,))) == 9
        await pool.shutdown()
    assert len(fakes) == 2


@pytest.mark.parametrize("retries", [0, 2])
async def test_a_subtask_is_tried_again_as_often_as_it_allows(fakes, retries):
    attempts = []

    def flaky():
        attempts.append(1)
        if len(attempts) < 3:
            raise OSError(f"attempt {len(attempts)}")
        return "done"

    async with ActorPool([ActorPoolConfig("any")]) as pool:
        if retries == 2:
            assert await pool.run_subtask(SubTask(flaky, max_retries=retries)) == "done"
        else:
            with pytest.raises(OSError, match="attempt 1"):
                await pool.run_subtask(SubTask(flaky, max_retries=retries))
        assert pool.statistics().retried == retries
        assert pool.statistics().idle == 1


async def test_the_first_error_of_run_many_is_raised_as_it_is(fakes):
    async with ActorPool([ActorPoolConfig("any", count=2)]) as pool:
        with pytest.raises(ValueError, match="invalid literal"):
            await pool.run_many([SubTask(int, ("1",)), SubTask(int, ("x",)), SubTask(int, ("2",))])
        assert await pool.run_many([SubTask(int, ("1",))]) == [1]


async def test_subtasks_go_where_their_affinity_says(fakes):
    configs = [
        ActorPoolConfig("any", capabilities=["cpu"]),
        ActorPoolConfig("any", capabilities=["gpu"], name="g"),
    ]
    async with ActorPool(configs) as pool:
        worker = await pool._acquire("gpu")
        assert worker.name == "g-0"
        waiting = asyncio.ensure_future(pool.run_subtask(SubTask(square, (2,), affinity="worker::g-0")))
        assert await pool.run_subtask(SubTask(square, (3,))) == 9
        assert pool.statistics().waiting == 1
        pool._roster.release(worker)
        assert await waiting == 4


async def test_an_affinity_that_nobody_has_is_an_error(fakes):
    async with ActorPool([ActorPoolConfig("any")]) as pool:
        with pytest.raises(RuntimeError, match="No actor in the pool"):
            await pool.run_subtask(SubTask(square, (2,), affinity="tpu"))


async def test_a_pool_without_workers_says_so():
    async with ActorPool([]) as pool:
        with pytest.raises(RuntimeError, match="No actor in the pool"):
            await pool.run_subtask(SubTask(square, (2,)))


async def test_shutting_down_fails_those_who_wait(fakes):
    pool = ActorPool([ActorPoolConfig("any")])
    await pool.start()
    await pool._acquire()
    waiting = asyncio.ensure_future(pool.run_subtask(SubTask(square, (2,))))
    await begun(pool)
    await pool.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        await waiting


async def test_a_pool_that_is_started_while_it_shuts_down_has_workers(monkeypatch):
    pool, started = ActorPool([ActorPoolConfig("thread")]), asyncio.Event()
    channel = await pool.open_channel("news")
    close = channel.close

    async def slowly():
        await started.wait()
        await close()

    monkeypatch.setattr(channel, "close", slowly)
    closing = asyncio.create_task(pool.shutdown())
    await asyncio.sleep(0)
    await pool.start()
    started.set()
    await closing
    assert await pool.run_subtask(SubTask(square, (2,))) == 4
    await pool.shutdown()


async def test_a_cancelled_shutdown_can_be_made_good(fakes):
    pool = ActorPool([ActorPoolConfig("any", count=2)])
    await pool.start()
    closing = asyncio.create_task(pool.shutdown())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await pool.shutdown()
    assert [fake.events[-1] for fake in fakes] == ["close"] * 2


async def test_a_cancelled_waiter_does_not_take_a_worker_with_it(fakes):
    async with ActorPool([ActorPoolConfig("any")]) as pool:
        worker = await pool._acquire()
        waiting = asyncio.ensure_future(pool.run_subtask(SubTask(square, (2,))))
        await begun(pool)
        pool._roster.release(worker)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await asyncio.wait_for(pool.run_subtask(SubTask(square, (3,))), 30) == 9


async def test_a_bad_backend_is_a_value_error_at_the_start_and_leaves_the_pool_usable():
    pool = ActorPool([ActorPoolConfig("thread"), ActorPoolConfig("nonsense")])
    for _ in range(2):
        with pytest.raises(ValueError, match="A backend must be"):
            await pool.start()
    assert not any(key[0] == "nonsense" for key in Runtime._live)


def test_capabilities_follow_from_the_backend():
    assert ActorPoolConfig("process").resolved_capabilities() == ("cpu",)
    for backend in ("gpu", "ucx://h:1", GPUActorBackend(), UCXRemoteActorBackend("h", 1)):
        assert ActorPoolConfig(backend).resolved_capabilities() == ("gpu",)
    assert ActorPoolConfig("gpu", capabilities=("a",)).resolved_capabilities() == ("a",)


def test_one_pool_serves_several_event_loops(fakes):
    pool = ActorPool([ActorPoolConfig("any", count=2)])
    for _ in range(3):
        assert asyncio.run(pool.run_many([SubTask(square, (n,)) for n in range(4)])) == [0, 1, 4, 9]
    asyncio.run(pool.shutdown())


async def test_thread_workers_run_in_other_threads_of_this_process_on_the_very_arguments():
    seen: list[int] = []

    def work(box):
        seen.append(threading.get_ident())
        box.append(1)
        return box

    async with ActorPool([ActorPoolConfig("thread", count=2)]) as pool:
        box: list[int] = []
        assert await pool.run_subtask(SubTask(work, (box,))) is box
        assert box == [1]
        assert seen != [threading.get_ident()]


async def test_thread_workers_really_work_side_by_side():
    barrier = threading.Barrier(4)
    async with ActorPool([ActorPoolConfig("thread", count=4)]) as pool:
        await asyncio.wait_for(pool.run_many([SubTask(barrier.wait, (30,)) for _ in range(4)]), 30)


async def test_a_backend_given_as_an_object_serves_a_group_too():
    backend = ThreadActorBackend()
    async with ActorPool([ActorPoolConfig(backend, count=3)]) as pool:
        assert await pool.run_many([SubTask(square, (n,)) for n in range(5)]) == [0, 1, 4, 9, 16]


async def test_workers_of_a_group_have_backends_of_the_kind_given_and_lost_ones_are_waited_for():
    calls, patience = [], []

    class Mine(ThreadActorBackend):
        async def construct(self, cls_or_factory, *, args=(), kwargs=None):
            patience.append(self.patience)
            await super().construct(cls_or_factory, args=args, kwargs=kwargs)

        async def call(self, method, /, *args, **kwargs):
            calls.append(method)
            if len(calls) == 1:
                raise NodeLostError("gone")
            return await super().call(method, *args, **kwargs)

    async with ActorPool([ActorPoolConfig(Mine(), count=2)]) as pool:
        tasks = [SubTask(square, (2,), affinity=tag) for tag in pool.worker_affinities()]
        assert await pool.run_many(tasks) == [4, 4]
        await pool.open_channel("news")  # whose mailboxes are none of its objects
    assert calls == ["run"] * 3
    assert patience == [None, None, 60.0]  # nannies need longer than byzflow.comm.connect-timeout


async def test_a_dask_pool_tells_the_compiler_where_its_workers_are():
    async with ActorPool([ActorPoolConfig("thread", count=3)]) as pool:
        assert isinstance(pool.runtime, Runtime)
        assert list(pool.worker_addresses) == await pool.runtime.workers()


async def test_a_pool_of_fakes_has_no_runtime(fakes):
    async with ActorPool([ActorPoolConfig("any")]) as pool:
        assert pool.runtime is None
        assert pool.worker_addresses == ()


async def test_a_channel_is_bound_on_every_worker_once_and_pools_can_talk():
    async with (
        ActorPool([ActorPoolConfig("thread", count=2)]) as pool,
        ActorPool([ActorPoolConfig("thread", name="far")]) as other,
    ):
        channel, again = await asyncio.gather(pool.open_channel("c"), pool.open_channel("c"))
        assert channel is again
        assert channel.workers == ("actor-0", "actor-1")
        await channel.send("actor-0", "actor-1", torch.arange(3))
        assert torch.equal(await channel.recv("actor-1", timeout=30), torch.arange(3))
        assert await channel.recv("actor-1", timeout=0.01) is None
        far = await other.open_channel("c")
        await channel.channel("actor-0").send(far.endpoint("far-0"), "hello")
        assert await far.recv("far-0", timeout=30) == "hello"
        with pytest.raises(KeyError):
            channel.endpoint("nobody")


async def test_a_lost_worker_whose_revival_was_cancelled_is_revived_for_the_next(fakes, monkeypatch):
    async def lost(self, method, *args, **kwargs):
        raise NodeLostError("gone")

    begun = asyncio.Event()

    async def never(self, *args, **kwargs):
        begun.set()
        await asyncio.Event().wait()

    async with ActorPool([ActorPoolConfig("any")]) as pool:
        fakes[0].call = lost.__get__(fakes[0])
        with monkeypatch.context() as patch:
            patch.setattr(Fake, "construct", never)
            work = asyncio.create_task(pool.run_subtask(SubTask(square, (2,))))
            await asyncio.wait_for(begun.wait(), 20)
            work.cancel()
            await asyncio.wait([work])
        assert await pool.run_subtask(SubTask(square, (3,))) == 9
    assert [fake.events[-1] for fake in fakes] == ["close"] * 3


@pytest.mark.parametrize("losses", [1, pool_module.REVIVALS - 1, pool_module.REVIVALS + 1])
async def test_a_worker_whose_next_host_is_lost_too_stays_in_the_pool(fakes, monkeypatch, losses):
    async def lost(self, *args, **kwargs):
        raise NodeLostError("gone")

    construct, hosts = Fake.construct, iter([lost] * losses)
    async with ActorPool([ActorPoolConfig("any")]) as pool:
        fakes[0].call = lost.__get__(fakes[0])
        monkeypatch.setattr(Fake, "construct", lambda self, *a, **k: next(hosts, construct)(self, *a, **k))
        work = pool.run_subtask(SubTask(square, (2,)))
        if losses < pool_module.REVIVALS:
            assert await work == 4
        else:
            with pytest.raises(NodeLostError, match="gone"):
                await work
        assert await pool.run_subtask(SubTask(square, (3,))) == 9
        assert pool.statistics()[:3] == (1, 1, 0)
        assert pool.statistics().revived == 1
    assert [fake.events[-1] for fake in fakes] == ["close"] * len(fakes)


async def test_a_worker_that_cannot_be_replaced_is_done_without(fakes, monkeypatch):
    async def lost(self, *args, **kwargs):
        await asyncio.sleep(0)  # until the other one waits for this worker
        raise NodeLostError("gone")

    async def refused(self, *args, **kwargs):
        raise ConnectionError("no scheduler")

    far = [SubTask(square, (n,), affinity="far") for n in range(2)]
    async with ActorPool([ActorPoolConfig("any", 1, ["far"], "far"), ActorPoolConfig("any")]) as pool:
        fakes[0].call = lost.__get__(fakes[0])
        monkeypatch.setattr(Fake, "construct", refused)
        under_way, stuck = await asyncio.gather(*map(pool.run_subtask, far), return_exceptions=True)
        assert isinstance(under_way, NodeLostError)
        assert "far-0 was lost" in str(stuck)
        with pytest.raises(RuntimeError, match="none can do 'far', since far-0 was lost"):
            await pool.run_subtask(far[0])
        assert await pool.run_subtask(SubTask(square, (3,))) == 9
        assert pool.size == 1
    assert [fake.events[-1] for fake in fakes] == ["close"] * 3


async def test_a_subtask_whose_worker_cannot_be_replaced_goes_to_another(fakes, monkeypatch):
    async def lost(self, *args, **kwargs):
        raise NodeLostError("gone")

    async def refused(self, *args, **kwargs):
        raise ConnectionError("no scheduler")

    async with ActorPool([ActorPoolConfig("any", count=2)]) as pool:
        fakes[0].call = lost.__get__(fakes[0])
        monkeypatch.setattr(Fake, "construct", refused)
        assert await pool.run_subtask(SubTask(square, (3,))) == 9
        assert pool.size == 1


async def test_a_pool_that_has_lost_all_its_workers_starts_again_with_the_next_subtask(fakes, monkeypatch):
    async def lost(self, *args, **kwargs):
        raise NodeLostError("gone")

    async def refused(self, *args, **kwargs):
        raise ConnectionError("no scheduler")

    async def bound(self, name):
        return Endpoint("any", "here", name)

    monkeypatch.setattr(Fake, "chan_open", bound, raising=False)
    async with ActorPool([ActorPoolConfig("any", count=2)]) as pool:
        channel = await pool.open_channel("news")
        for fake in fakes:
            fake.call = lost.__get__(fake)
        with monkeypatch.context() as patch:
            patch.setattr(Fake, "construct", refused)
            with pytest.raises(NodeLostError):
                await pool.run_subtask(SubTask(square, (3,)))
            with pytest.raises(ConnectionError, match="no scheduler"):
                await pool.run_subtask(SubTask(square, (3,)))
        squares = [SubTask(square, (n,)) for n in range(3)]
        assert await pool.run_many(squares) == [0, 1, 4]
        assert pool.statistics()[:3] == (2, 2, 0)
        assert await pool.open_channel("news") is channel
    assert [fake.events[-1] for fake in fakes] == ["close"] * len(fakes)
    assert pool.statistics().idle == 0


async def test_what_is_dealt_to_a_worker_that_cannot_be_replaced_goes_to_another(fakes, monkeypatch):
    async def lost(self, *args, **kwargs):
        raise NodeLostError("gone")

    async def refused(self, *args, **kwargs):
        raise ConnectionError("no scheduler")

    class Squares(Operator):
        supports_subtasks = True

        def create_subtasks(self, inputs, *, context):
            return [SubTask(square, (n,)) for n in range(6)]

        def reduce_subtasks(self, partials, inputs, *, context):
            return partials

    async with ActorPool([ActorPoolConfig("any", count=2)]) as pool:
        context = OpContext("squares", {"worker_affinities": pool.worker_affinities()})
        fakes[0].call = lost.__get__(fakes[0])
        monkeypatch.setattr(Fake, "construct", refused)
        assert await Squares().run({}, context=context, pool=pool) == [0, 1, 4, 9, 16, 25]
        assert pool.worker_affinities() == ("worker::actor-1",)


async def test_capabilities_that_a_cluster_has_as_resources_say_where_workers_are():
    def name():
        return get_worker().name

    gpu = {"resources": {"gpu": 1}, "nthreads": 1}
    async with (
        Scheduler(protocol="inproc", dashboard_address=":0") as scheduler,
        Worker(scheduler.address, name="plain", nthreads=1),
        Worker(scheduler.address, name="gpu", **gpu) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        groups = [ActorPoolConfig(client, 2, ("gpu", "big"), "g"), ActorPoolConfig(client, 1, ("cpu",), "c")]
        async with ActorPool(groups) as pool:
            found = [await pool.run_subtask(SubTask(name, affinity=tag)) for tag in pool.worker_affinities()]
            assert found == ["gpu", "gpu", "plain"]  # "big" and "cpu" are no more than names there
            await worker.close()
            late = asyncio.create_task(pool.run_subtask(SubTask(name, affinity="gpu")))
            async with Worker(scheduler.address, name="other", **gpu):
                assert await asyncio.wait_for(late, 30) == "other"
        async with ActorPool(ActorPoolConfig(client)) as pool:
            assert await pool.run_subtask(SubTask(name)) == "plain"


async def test_a_default_capability_leaves_no_worker_of_a_cluster_out():
    def name():
        return get_worker().name

    async with (
        Scheduler(protocol="inproc", dashboard_address=":0") as scheduler,
        Worker(scheduler.address, name="one", nthreads=1, resources={"cpu": 1}),
        Worker(scheduler.address, name="two", nthreads=1),
        Client(scheduler.address, asynchronous=True) as client,
        ActorPool([ActorPoolConfig(client, 2)]) as pool,
    ):
        found = [await pool.run_subtask(SubTask(name, affinity=tag)) for tag in pool.worker_affinities()]
        assert sorted(found) == ["one", "two"]


async def test_a_capability_whose_last_worker_is_gone_is_waited_for_as_long_as_may_be():
    async with (
        Scheduler(protocol="inproc", dashboard_address=":0") as scheduler,
        Worker(scheduler.address, nthreads=1),
        Worker(scheduler.address, nthreads=1, resources={"gpu": 1}) as worker,
        Client(scheduler.address, asynchronous=True) as client,
        ActorPool([ActorPoolConfig(client, 1, ("gpu",))]) as pool,
    ):
        await worker.close()
        short = {"byzflow.comm.connect-timeout": "50ms", "byzflow.host.return-deadline": "50ms"}
        with dask.config.set(short), pytest.raises(NodeLostError):
            await asyncio.wait_for(pool.run_subtask(SubTask(square, (2,))), 30)
        assert pool.statistics().idle == 0


@pytest.mark.processes
async def test_process_workers_are_isolated_survive_a_kill_and_leave_nothing_behind(monkeypatch):
    monkeypatch.setitem(EMBEDDED, "spare", process_cluster)  # not shared with other tests
    children = set(psutil.Process().children(recursive=True))
    threads = threading.active_count()
    async with ActorPool([ActorPoolConfig(DaskActorBackend("spare"), count=2)]) as pool:
        mine = np.zeros(3)
        theirs = await pool.run_subtask(SubTask(scribble, (mine,)))
        assert (mine.tolist(), theirs.tolist()) == ([0, 0, 0], [1, 1, 1])
        pids = await pool.run_many([SubTask(os.getpid, affinity=tag) for tag in pool.worker_affinities()])
        assert os.getpid() not in pids

        under_way = asyncio.ensure_future(pool.run_subtask(SubTask(die_among, (pids,))))
        assert await asyncio.wait_for(under_way, 20) not in pids[:1]
        assert pool.statistics().revived >= 1
        assert await pool.run_many([SubTask(pow, (n, 2)) for n in range(4)]) == [0, 1, 4, 9]
    left = [child for child in psutil.Process().children(recursive=True) if child not in children]
    left = [child for child in left if "resource_tracker" not in " ".join(child.cmdline())]  # Python's own
    _, alive = await asyncio.to_thread(psutil.wait_procs, left, 20)
    assert alive == []
    async with asyncio.timeout(20):  # those that watched the processes end a moment later
        while threading.active_count() > threads + 3:  # noqa: ASYNC110  # Dask's and asyncio's own, which stay
            await asyncio.sleep(0.01)


async def test_what_is_no_subtask_is_refused_before_anything_starts():
    pool = ActorPool([ActorPoolConfig("thread")])
    for wrong in (pool.run_subtask(square), pool.run_many([square])):
        with pytest.raises(TypeError, match=r"SubTask; got function. Wrap a function: SubTask\(fn, args\)"):
            await wrong
    with pytest.raises(TypeError, match="subtasks must be a sequence; got SubTask"):
        await pool.run_many(SubTask(square, (2,)))
    with pytest.raises(TypeError, match="fn must be callable; got str"):
        SubTask("square", (2,))
    await pool.shutdown()
