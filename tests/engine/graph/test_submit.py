"""Rules on a cluster give the bits of the eager call, whatever the rows come as, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import nullcontext
from unittest.mock import Mock

import dask
import dask.array as da
import numpy as np
import pytest
import torch
from dask.delayed import delayed
from distributed import Client, Future, LocalCluster
from distributed.client import FutureCancelledError

from byzflow.aggregators.base import Aggregator
from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.attacks import EmpireAttack, SignFlipAttack
from byzflow.engine.actor.connection import ClientClosedError
from byzflow.engine.actor.runtime import Runtime
from byzflow.engine.actor.vec import Vec, unwrap, wrap
from byzflow.engine.graph.graph import ComputationGraph, GraphInput, GraphNode, graph_input
from byzflow.engine.graph.ops import CallableOp, RemoteCallableOp, make_single_operator_graph
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.engine.graph.scheduler import MessageAwareNodeScheduler, NodeScheduler
from byzflow.engine.graph.submit import Cluster, is_small, shard_count
from byzflow.exceptions import NodeLostError, ToleranceError
from byzflow.pre_aggregators import Clipping, NearestNeighborMixing

D = 70_000
N = 7


class DaskPool:
    """A pool of which only the cluster is used."""

    size = 2

    def __init__(self, runtime):
        self.runtime = runtime

    async def run_subtask(self, subtask):
        raise AssertionError("rules are compiled, not cut into subtasks")


@pytest.fixture(scope="module")
def client():
    options = {"processes": False, "protocol": "tcp", "dashboard_address": ":0", "memory_limit": 0}
    with LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture
async def pool(client):
    runtime = await Runtime.acquire(client)
    with dask.config.set({"byzflow.graph.in-place-below": 0, "byzflow.graph.shard-size": 1}):
        yield DaskPool(runtime)
    await runtime.release()


@pytest.fixture
def rows():
    return [torch.from_numpy(row) for row in np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)]


def single(op, key):
    return make_single_operator_graph(node_name="a", operator=op, input_keys=[key])


def diamond():
    """Two branches from the same rows, one of them a chain, and a plain function that reads both."""
    return ComputationGraph(
        [
            GraphNode("clip", Clipping(200.0), {"vectors": graph_input("g")}),
            GraphNode("mix", NearestNeighborMixing(1), {"vectors": "clip"}),
            GraphNode("krum", MultiKrum(1, 2), {"gradients": "mix"}),
            GraphNode("median", CoordinateWiseMedian(), {"gradients": graph_input("g")}),
            GraphNode(
                "both",
                CallableOp(lambda a, b: a + b, input_mapping={"a": "a", "b": "b"}),
                {"a": "krum", "b": "median"},
            ),
        ],
        outputs=["both", "median"],
    )


def assert_same(got, expected):
    if isinstance(expected, (list, dict)):
        assert len(got) == len(expected)
        for key in expected if isinstance(expected, dict) else range(len(expected)):
            assert_same(got[key], expected[key])
        return
    got = unwrap(got)
    assert (type(got), got.dtype, got.shape) == (type(expected), expected.dtype, expected.shape)
    assert bool((got == expected).all())


@pytest.mark.parametrize("shape", [(D,), (70, 1000), (3,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
async def test_type_and_shape_are_those_of_the_first_vector(pool, rows, shape, dtype):
    size = int(np.prod(shape))
    vectors = [row[:size].reshape(shape).to(dtype) for row in rows]
    op = NearestNeighborMixing(2)
    got = await NodeScheduler(single(op, "vectors"), pool=pool).run({"vectors": vectors})
    assert_same(got["a"], op.pre_aggregate(vectors))


async def test_a_graph_with_branches_gives_the_bits_of_a_run_in_place(pool, rows):
    expected = await NodeScheduler(diamond()).run({"g": rows})
    assert_same(await NodeScheduler(diamond(), pool=pool).run({"g": rows}), expected)


async def test_a_graph_submitted_in_several_waves_gives_the_same_bits(pool, rows, monkeypatch):
    submitted = []
    get = pool.runtime.client.get
    monkeypatch.setattr("byzflow.engine.graph.waves.WIDE", 1)
    monkeypatch.setattr(pool.runtime.client, "get", lambda *a, **k: submitted.append(a) or get(*a, **k))
    expected = await NodeScheduler(diamond()).run({"g": rows})
    assert_same(await NodeScheduler(diamond(), pool=pool).run({"g": rows}), expected)
    assert len(submitted) > 1


async def test_a_rule_after_a_rule_works_on_shards_in_the_vectors_dtype(pool, rows):
    graph = ComputationGraph(
        [
            GraphNode("mix", NearestNeighborMixing(1), {"vectors": graph_input("g")}),
            GraphNode("median", CoordinateWiseMedian(), {"gradients": "mix"}),
            GraphNode("flip", SignFlipAttack(), {"base_grad": "median"}),
        ],
        outputs=["mix", "median", "flip"],
    )
    vectors = [row.to(torch.float16) for row in rows]
    expected = await NodeScheduler(graph).run({"g": vectors})
    assert_same(await NodeScheduler(graph, pool=pool).run({"g": vectors}), expected)


async def test_one_vector_may_be_the_rows_of_an_attack(pool, rows):
    op = SignFlipAttack(-2.0)
    got = await NodeScheduler(single(op, "base_grad"), pool=pool).run({"base_grad": rows[0]})
    assert_same(got["a"], -2.0 * rows[0])


@pytest.mark.parametrize("shard_size", [1, 10**12])
@pytest.mark.parametrize("kind", ["list", "one", "mixed", "delayed", "delayed-list", "wrapped"])
async def test_rows_may_lie_on_the_cluster(pool, client, rows, kind, shard_size):
    def scatter(value):
        return client.scatter([value], hash=False)[0]

    vectors = {
        "list": lambda: [scatter(row) for row in rows],
        "one": lambda: scatter(rows),
        "mixed": lambda: [scatter(rows[0]), *rows[1:]],
        "delayed": lambda: delayed(list)(rows),
        "delayed-list": lambda: [delayed(torch.clone)(row) for row in rows],
        "wrapped": lambda: scatter(wrap(rows)),
    }[kind]()
    with dask.config.set({"byzflow.graph.shard-size": shard_size}):
        got = await NodeScheduler(single(MultiKrum(1, 2), "gradients"), pool=pool).run({"gradients": vectors})
    assert_same(got["a"], MultiKrum(1, 2).aggregate(rows))


@pytest.mark.parametrize("kind", ["list", "one", "mixed"])
@pytest.mark.parametrize("compute", [True, False])
async def test_futures_of_another_cluster_than_the_pools_are_fetched(client, rows, kind, compute):
    far = [client.scatter([row], hash=False)[0] for row in rows]
    vectors = {"list": far, "one": client.scatter([rows], hash=False)[0], "mixed": [far[0], *rows[1:]]}[kind]
    async with ActorPool([ActorPoolConfig("thread", 2)]) as pool:
        scheduler = NodeScheduler(single(MultiKrum(1, 2), "gradients"), pool=pool)
        got = (await scheduler.run({"gradients": vectors}, compute=compute))["a"]
        result = got if compute else await asyncio.to_thread(got.result)
    assert_same(result, MultiKrum(1, 2).aggregate(rows))


@pytest.mark.parametrize("has_pool", [True, False])
@pytest.mark.parametrize("kind", ["persisted", "array", "delayed"])
async def test_what_reads_futures_is_computed_where_they_lie(client, rows, kind, has_pool, monkeypatch):
    monkeypatch.setattr(Client, "current", Mock(side_effect=ValueError))  # nobody else knows where
    stack = da.from_array(np.stack(rows), chunks=(N, 30_000))
    value = {
        "persisted": lambda: client.persist(stack),
        "array": lambda: client.persist(stack) * 1,
        "delayed": lambda: delayed(list)(client.scatter([row.numpy() for row in rows], hash=False)),
    }[kind]()
    async with ActorPool([ActorPoolConfig("thread", 2)]) as pool:
        scheduler = NodeScheduler(
            single(CoordinateWiseMedian(), "gradients"), pool=pool if has_pool else None
        )
        got = (await scheduler.run({"gradients": value}))["a"]
    assert_same(got, CoordinateWiseMedian().aggregate([row.numpy() for row in rows]))


@pytest.mark.parametrize("where", ["nowhere", "there", "elsewhere"])
@pytest.mark.parametrize("kind", ["future", "futures", "delayed", "array"])
async def test_messages_may_bring_what_inputs_may_be(client, rows, kind, where):
    numbers = [row.numpy() for row in rows]
    value = {
        "future": lambda: client.scatter([numbers], hash=False)[0],
        "futures": lambda: client.scatter(numbers, hash=False),
        "delayed": lambda: [delayed(number) for number in numbers],
        "array": lambda: da.from_array(np.stack(numbers), chunks=(N, 30_000)),
    }[kind]()
    source = GraphInput.from_message("letter", field="rows")
    add = CallableOp(lambda rows: sum(map(np.asarray, rows)), input_mapping={"rows": "rows"})
    nodes = [
        GraphNode("median", CoordinateWiseMedian(), {"gradients": source}),
        GraphNode("sum", add, {"rows": source}),
    ]
    pool = {"nowhere": None, "there": ActorPoolConfig(client, 2), "elsewhere": ActorPoolConfig("thread", 2)}[
        where
    ]
    async with ActorPool([pool] if pool else []) as pool:
        scheduler = MessageAwareNodeScheduler(ComputationGraph(nodes, outputs=["median", "sum"]), pool=pool)
        for _ in nodes:
            scheduler.deliver_message("letter", {"rows": value})
        got = await scheduler.run({})
    assert_same(got, {"median": CoordinateWiseMedian().aggregate(numbers), "sum": sum(numbers)})


@pytest.mark.parametrize("op", [CoordinateWiseMedian(), CallableOp(len, input_mapping={})])
async def test_cancelled_futures_are_named(client, op):
    future = client.submit(list, pure=False)
    future.cancel()
    with pytest.raises(NodeLostError, match="they were cancelled, or lost with their workers"):
        await NodeScheduler(single(op, "gradients")).run({"gradients": future})


async def test_a_client_that_is_closed_meanwhile_is_named(client, monkeypatch):
    begun, gather = threading.Event(), Cluster._gather

    async def noted(self, value):
        begun.set()
        return await gather(self, value)

    monkeypatch.setattr(Cluster, "_gather", noted)
    mine = Client(client.cluster, set_as_default=False)
    never = mine.submit(list, workers=["tcp://127.0.0.1:1"], pure=False)
    run = asyncio.create_task(
        NodeScheduler(single(CoordinateWiseMedian(), "gradients")).run({"gradients": never})
    )
    await asyncio.to_thread(begun.wait, 20)
    await asyncio.to_thread(mine.close)
    with pytest.raises(ClientClosedError):
        await asyncio.wait_for(run, 20)


@pytest.mark.parametrize("where", ["nowhere", "there"])
@pytest.mark.parametrize("kind", ["one", "mixed"])
async def test_futures_of_another_client_of_the_cluster_may_be_new(client, rows, kind, where):
    """Those that their client has not yet told the scheduler of, too."""
    add = CallableOp(lambda rows: sum(map(np.asarray, rows)), input_mapping={"rows": "rows"})
    nodes = [
        GraphNode("median", CoordinateWiseMedian(), {"gradients": graph_input("g")}),
        GraphNode("sum", add, {"rows": graph_input("g")}),
    ]
    numbers = [row.numpy() for row in rows]
    pool = [ActorPoolConfig(client, 1)] if where == "there" else []
    with Client(client.cluster, set_as_default=False) as other:
        async with ActorPool(pool) as pool:
            other.scheduler_comm.interval = 0.1  # [seconds] between what it tells
            first = client.scatter(numbers[0], hash=False)
            other.submit(list, pure=False)
            made = other.submit(lambda: numbers if kind == "one" else numbers[1], pure=False)
            value = made if kind == "one" else [first, made, *numbers[2:]]
            scheduler = NodeScheduler(ComputationGraph(nodes, outputs=["median", "sum"]), pool=pool)
            got = await asyncio.wait_for(scheduler.run({"g": value}), 30)
    assert_same(got, {"median": CoordinateWiseMedian().aggregate(numbers), "sum": sum(numbers)})


async def test_rows_are_not_placed_again_when_the_client_was_closed(client, pool, rows, monkeypatch):
    async def gone(self, value):
        patch.setattr(client, "status", "closed")
        raise FutureCancelledError("rows", "closed")

    with monkeypatch.context() as patch:
        patch.setattr(Cluster, "_gather", gone)
        with pytest.raises(ClientClosedError):
            await NodeScheduler(single(MultiKrum(1, 2), "gradients"), pool=pool).run({"gradients": rows})


async def test_futures_need_no_pool(client, rows):
    future = client.scatter([rows], hash=False)[0]
    got = await NodeScheduler(diamond()).run({"g": future})
    assert_same(got, await NodeScheduler(diamond()).run({"g": rows}))


async def test_a_plain_operator_gets_values_for_futures_and_dask_arrays(client):
    op = CallableOp(lambda x, y, z: (x, y, float(z.sum())), input_mapping={k: k for k in "xyz"})
    graph = make_single_operator_graph(node_name="a", operator=op, input_keys="xyz")
    inputs = {"x": client.submit(int, 3), "y": [client.submit(int, 4), 5], "z": da.ones((2, 3), chunks=2)}
    assert await NodeScheduler(graph).run(inputs) == {"a": (3, [4, 5], 6.0)}


@pytest.mark.parametrize("dtype", ["float32", "int64"])
async def test_a_dask_array_stays_lazy_between_rules(pool, dtype):
    X = np.random.default_rng(1).normal(size=(N, 5000), scale=9.0).astype(dtype)
    lazy = da.from_array(X, chunks=(3, 2000))
    expected = await NodeScheduler(diamond()).run({"g": list(X)})
    for scheduler in (NodeScheduler(diamond()), NodeScheduler(diamond(), pool=pool)):
        assert_same(await scheduler.run({"g": lazy}), expected)
        assert_same(await scheduler.run({"g": list(lazy)}), expected)


async def test_without_compute_every_output_is_a_future_of_its_value(pool, rows):
    expected = await NodeScheduler(diamond()).run({"g": rows})
    futures = await NodeScheduler(diamond(), pool=pool).run({"g": rows}, compute=False)
    assert all(isinstance(future, Future) for future in futures.values())
    assert_same({name: future.result() for name, future in futures.items()}, expected)


async def test_a_future_of_short_floats_holds_a_vec(pool, rows):
    vectors = [row.to(torch.bfloat16) for row in rows]
    op = CoordinateWiseMedian()
    futures = await NodeScheduler(single(op, "gradients"), pool=pool).run(
        {"gradients": vectors}, compute=False
    )
    value = futures["a"].result()
    assert isinstance(value, Vec)
    assert_same(value.array, op.aggregate(vectors))


async def test_futures_of_values_lie_with_the_current_client(client, rows):
    expected = await NodeScheduler(diamond()).run({"g": rows})
    with client.as_current():
        futures = await NodeScheduler(diamond()).run({"g": rows}, compute=False)
    assert all(future.client is client for future in futures.values())
    assert_same({name: future.result() for name, future in futures.items()}, expected)


async def test_futures_without_a_cluster_are_refused(rows, monkeypatch):
    monkeypatch.setattr(Client, "current", Mock(side_effect=ValueError("No clients found")))
    with pytest.raises(ValueError, match="compute=False needs a cluster"):
        await NodeScheduler(diamond()).run({"g": rows}, compute=False)


async def test_small_rows_do_not_travel(pool, client, rows):
    op = CoordinateWiseMedian()
    with dask.config.set({"byzflow.graph.in-place-below": 10**12}):
        before = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)
        await NodeScheduler(single(op, "gradients"), pool=pool).run({"gradients": rows})
        assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter) == before


async def test_nothing_is_left_on_the_cluster(pool, client, rows):
    for _ in range(3):
        await NodeScheduler(diamond(), pool=pool).run({"g": rows})
    async with asyncio.timeout(30):
        while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
            await asyncio.to_thread(client.run_on_scheduler, lambda: None)


@pytest.mark.parametrize("large", [True, False])
async def test_a_rule_that_cannot_keep_its_promise_says_so(pool, rows, large):
    with (
        dask.config.set({"byzflow.graph.in-place-below": 0 if large else 10**12}),
        pytest.raises(ToleranceError, match="MultiKrum"),
    ):
        await NodeScheduler(single(MultiKrum(6, 1), "gradients"), pool=pool).run({"gradients": rows})


async def test_an_error_inside_a_task_keeps_its_type(pool, client, rows):
    futures = [client.scatter([row], hash=False)[0] for row in (rows[0], rows[1][:-1], rows[2])]
    for size in (1, 10**12):
        with (
            dask.config.set({"byzflow.graph.shard-size": size}),
            pytest.raises(ValueError, match="same shape"),
        ):
            await NodeScheduler(single(CoordinateWiseMedian(), "gradients"), pool=pool).run(
                {"gradients": futures}
            )


async def test_a_refusal_in_the_first_wave_reaches_the_caller(pool, rows, monkeypatch):
    monkeypatch.setattr("byzflow.engine.graph.waves.WIDE", 1)
    vectors = [torch.full_like(row, torch.nan) for row in rows]
    with pytest.raises(ToleranceError):
        await NodeScheduler(single(MultiKrum(1, 2), "gradients"), pool=pool).run({"gradients": vectors})


@pytest.mark.parametrize("hostile", [False, True])
async def test_a_refusal_leaves_nothing_on_the_cluster_either(pool, client, rows, hostile):
    vectors = [torch.full_like(row, torch.nan) if hostile else row for row in rows]
    gc.collect()
    gc.disable()  # an error and the futures that it came through hold each other
    try:
        with pytest.raises(ToleranceError) if hostile else nullcontext():
            await NodeScheduler(single(MultiKrum(1, 2), "gradients"), pool=pool).run({"gradients": vectors})
        async with asyncio.timeout(30):
            while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
                await asyncio.to_thread(client.run_on_scheduler, lambda: None)
    finally:
        gc.enable()


async def test_a_cancelled_run_leaves_the_pool_usable(pool, rows):
    scheduler = NodeScheduler(diamond(), pool=pool)
    task = asyncio.create_task(scheduler.run({"g": rows}))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_same(await scheduler.run({"g": rows}), await NodeScheduler(diamond()).run({"g": rows}))


async def test_a_run_that_is_cancelled_while_rows_are_sent_leaves_nothing_on_the_cluster(pool, client, rows):
    gc.collect()
    tasks = client.cluster.scheduler.tasks
    for _ in range(5):
        run = asyncio.create_task(NodeScheduler(diamond(), pool=pool).run({"g": rows}))
        async with asyncio.timeout(30):
            while not tasks:  # noqa: ASYNC110  # until the scheduler has a row, which the client does not know
                await asyncio.sleep(0)
            run.cancel()
            await asyncio.wait([run])
            while tasks:
                gc.collect()
                await asyncio.sleep(0.01)


async def test_a_users_compute_runs_here_on_the_same_object(pool, rows):
    class Mine(Aggregator):
        calls = 0

        def aggregate(self, gradients):
            self.calls += 1
            return gradients[0]

    op = Mine()
    got = await NodeScheduler(single(op, "gradients"), pool=pool).run({"gradients": rows})
    assert got["a"] is rows[0]
    assert op.calls == 1


async def test_attacks_on_honest_rows_are_compiled(pool, rows):
    op = EmpireAttack()
    got = await NodeScheduler(single(op, "honest_grads"), pool=pool).run({"honest_grads": rows})
    assert_same(got["a"], op.apply(honest_grads=rows))


async def test_rows_are_placed_again_when_their_worker_is_lost(rows):
    options = {"processes": False, "protocol": "tcp", "dashboard_address": ":0", "memory_limit": 0}
    async with (
        LocalCluster(n_workers=2, threads_per_worker=1, asynchronous=True, **options) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        runtime = await Runtime.acquire(client)
        lost = cluster.workers[0]
        original = client.get

        def get(*args, **kwargs):
            futures = original(*args, **kwargs)
            if lost.status.name == "running":
                cluster.scheduler.stream_comms[lost.address].abort()
            return futures

        client.get = get
        with dask.config.set({"byzflow.graph.in-place-below": 0, "byzflow.graph.shard-size": 1}):
            run = NodeScheduler(single(MultiKrum(1, 2), "gradients"), pool=DaskPool(runtime)).run(
                {"gradients": rows}
            )
            got = await asyncio.wait_for(run, 30)
        client.get = original
        await runtime.release()
    assert_same(got["a"], MultiKrum(1, 2).aggregate(rows))


def test_the_limits_come_from_the_configuration():
    with dask.config.set({"byzflow.graph.in-place-below": 100, "byzflow.graph.shard-size": 10}):
        assert is_small(9, 11)
        assert not is_small(10, 10)
        assert [shard_count(elements, 4) for elements in (5, 25, 1000, float("inf"))] == [1, 2, 4, 4]


def test_shards_grow_until_working_on_one_takes_as_long_as_handing_all_of_them_out():
    handing_out, work = 0.25e-3, 5e-9  # [seconds] for a shard, and for an element
    for elements in (10**8, 10**9, 10**10):
        k = shard_count(elements, 10_000)
        assert abs(k * handing_out - elements * work / k) < 2 * handing_out
        assert shard_count(elements, 10) == 10


def test_rows_that_lie_apart_are_cut_into_fewer_shards():
    for rows in (20, 1000):
        k = shard_count(10**9, 1000, rows, apart=True)
        tasks, work = k * (rows + 3), 10**9 * 5e-9 * max(1, rows / 64)
        handing_out = 0.25e-3 / 2
        assert abs(tasks * handing_out - work / k) < 2 * (rows + 3) * handing_out


def test_many_rows_are_worth_more_shards():
    assert shard_count(10**9, 1000, 64) == shard_count(10**9, 1000)
    assert shard_count(10**9, 1000, 256) == 2 * shard_count(10**9, 1000)


async def test_a_pool_of_threads_runs_functions_beside_the_caller_and_rules_on_its_cluster(rows):
    seen = []
    here = RemoteCallableOp(lambda x: seen.append(threading.get_ident()) or x, input_mapping={"x": "x"})
    graph = ComputationGraph(
        [
            GraphNode("same", here, {"x": graph_input("g")}),
            GraphNode("krum", MultiKrum(1, 2), {"gradients": "same"}),
        ]
    )
    pool = ActorPool([ActorPoolConfig("thread", count=2)])
    with dask.config.set({"byzflow.graph.in-place-below": 0, "byzflow.graph.shard-size": 1}):
        got = await NodeScheduler(graph, pool=pool).run({"g": rows})
    await pool.shutdown()
    assert_same(got["krum"], MultiKrum(1, 2).aggregate(rows))
    assert len(seen) == 1
    assert seen != [threading.get_ident()]


async def test_rules_in_place_leave_the_event_loop_free(pool, rows):
    loop_thread, seen = threading.get_ident(), []

    class Watched(CoordinateWiseMedian):
        def columns(self, X):
            seen.append(threading.get_ident())
            return super().columns(X)

    with dask.config.set({"byzflow.graph.in-place-below": 10**12}):
        await NodeScheduler(single(Watched(), "gradients"), pool=pool).run({"gradients": rows})
    assert seen
    assert loop_thread not in seen
