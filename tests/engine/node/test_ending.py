"""Nodes that are shut down from anywhere, at any moment: what they began ends, and nobody waits for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import pytest
from distributed import LocalCluster

from byzflow.engine.graph.graph import ComputationGraph, GraphNode
from byzflow.engine.graph.ops import CallableOp
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.engine.node.application import NodeApplication
from byzflow.engine.node.cluster import DecentralizedCluster
from byzflow.engine.node.context import DaskContext, InProcessContext
from byzflow.engine.node.decentralized import DecentralizedNode
from byzflow.engine.peer_to_peer.topology import Topology
from tests.engine.node.test_decentralized import application, cluster_of


class Gated(InProcessContext):
    """A context that starts and stops when a gate is open, and counts how often."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.starts = self.stops = 0

    async def start(self, node: Any) -> None:
        self.starts += 1
        await self.gate.wait()
        await super().start(node)

    async def shutdown(self) -> None:
        self.stops += 1
        await self.gate.wait()
        await super().shutdown()


class Stuck(InProcessContext):
    """A context that cannot be stopped the first time."""

    failures = 1

    async def shutdown(self) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("stuck")
        await super().shutdown()


def node_of(context: Any, app: NodeApplication | None = None) -> DecentralizedNode:
    return DecentralizedNode(node_id="solo", application=app or application(), context=context)


def stopped(cluster: DecentralizedCluster) -> bool:
    nodes: list[Any] = list(cluster.nodes.values())
    return not any(node._running or node.context._running for node in nodes)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0)


async def test_a_handler_may_stop_the_whole_cluster() -> None:
    cluster = await cluster_of(InProcessContext, Topology.complete(3))
    done = asyncio.Event()

    async def stop(sender: str, payload: Any) -> None:
        await cluster.shutdown_all()
        done.set()

    cluster.nodes["b"].register_message_handler("stop", stop)
    for _ in range(2):
        await cluster.nodes["a"].send_message("b", "stop", None)
        await asyncio.wait_for(done.wait(), 30)
        assert stopped(cluster)
        done.clear()
        await cluster.start_all()
    await cluster.shutdown_all()


async def test_a_task_of_a_node_may_stop_the_whole_cluster() -> None:
    cluster = await cluster_of(InProcessContext, Topology.complete(3))

    async def coordinate() -> str:
        await asyncio.wait_for(cluster.shutdown_all(), 30)
        return "done"

    task = await cluster.nodes["a"].start_autonomous_task(coordinate())
    assert await asyncio.wait_for(task, 30) == "done"
    assert stopped(cluster)


async def test_an_operator_may_stop_its_node() -> None:
    app = application()
    node = node_of(InProcessContext(), app)

    async def stop() -> str:
        await asyncio.gather(node.shutdown())
        return "done"

    app.register_pipeline("stop", ComputationGraph([GraphNode("y", CallableOp(stop, input_mapping={}))]))
    await node.start()
    assert await asyncio.wait_for(node.execute_pipeline("stop", {}), 30) == {"y": "done"}
    assert not node._running


async def test_a_handler_that_starts_its_node_anew_is_the_last_of_the_old_reader() -> None:
    cluster = await cluster_of(lambda: DaskContext("thread"), Topology.complete(3))
    a, b = cluster.nodes["a"], cluster.nodes["b"]
    heard: list[Any] = []
    done = asyncio.Event()

    async def restart(sender: str, payload: Any) -> None:
        await b.shutdown()
        await b.start()
        done.set()

    b.register_message_handler("restart", restart)
    b.register_message_handler("count", lambda sender, payload: heard.append(payload))
    former = b._listening
    await a.send_message("b", "restart", None)
    await asyncio.wait_for(done.wait(), 30)
    assert former is not None
    await asyncio.wait([former], timeout=30)
    assert former.done()
    for i in range(3):
        await a.send_message("b", "count", i)
    await until(lambda: len(heard) == 3)
    assert heard == [0, 1, 2]
    await cluster.shutdown_all()


async def test_a_pipeline_that_waits_says_that_its_node_was_shut_down() -> None:
    node = node_of(InProcessContext())
    await node.start()
    waiting = asyncio.create_task(node.execute_pipeline("wait", {}))
    cancelled = asyncio.create_task(node.execute_pipeline("wait", {}))
    await until(lambda: node.scheduler.statistics().waiting == 2)
    cancelled.cancel()
    await node.shutdown()
    with pytest.raises(RuntimeError, match="Pipeline 'wait' was under way when node 'solo' was shut down"):
        await waiting
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_a_handler_that_waited_for_something_cancelled_does_not_end_the_node() -> None:
    node = node_of(InProcessContext())
    heard = asyncio.Event()

    async def ask(sender: str, payload: Any) -> None:
        gone = asyncio.get_running_loop().create_future()
        gone.cancel()
        await gone

    node.register_message_handler("ask", ask)
    node.register_message_handler("last", lambda sender, payload: heard.set())
    async with node:
        for kind in ("ask", "last"):
            await node.context.send_message("solo", kind, None)
        await asyncio.wait_for(heard.wait(), 30)


async def test_a_node_started_twice_at_the_same_time_listens_once() -> None:
    context = Gated()
    node = node_of(context)
    before = asyncio.all_tasks()
    starts = [asyncio.create_task(node.start()) for _ in range(2)]
    await asyncio.sleep(0)
    context.gate.set()
    await asyncio.gather(*starts)
    assert context.starts == 1
    await node.shutdown()
    assert asyncio.all_tasks() == before


async def test_a_node_shut_down_while_it_starts_is_not_left_running() -> None:
    context = Gated()
    node = node_of(context)
    starting = asyncio.create_task(node.start())
    await until(lambda: context.starts == 1)
    stopping = asyncio.create_task(node.shutdown())
    context.gate.set()
    await asyncio.gather(starting, stopping)
    assert (node._running, context._running) == (False, False)


async def test_a_shutdown_whose_caller_is_cancelled_goes_on() -> None:
    context = Gated()
    node = node_of(context)
    context.gate.set()
    await node.start()
    context.gate.clear()
    impatient = asyncio.create_task(node.shutdown())
    await until(lambda: context.stops == 1)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    context.gate.set()
    await node.shutdown()
    assert (context.stops, context._running) == (1, False)


async def test_a_context_that_cannot_be_stopped_keeps_no_other_and_no_pool_open() -> None:
    pool = ActorPool([ActorPoolConfig("thread")])
    cluster = DecentralizedCluster()
    await cluster.add_node("stuck", NodeApplication(name="stuck", actor_pool=pool), context=Stuck())
    slow = Gated()
    slow.gate.set()
    await cluster.add_node("slow", application(), context=slow)
    await cluster.start_all()
    await pool.start()
    slow.gate.clear()
    stopping = asyncio.create_task(cluster.shutdown_all())
    await until(lambda: slow.stops == 1)
    slow.gate.set()
    with pytest.raises(OSError, match="stuck"):
        await stopping
    assert (slow._running, pool.worker_affinities()) == (False, ())
    await cluster.shutdown_all()
    assert stopped(cluster)


async def test_a_node_forgets_tasks_that_have_ended() -> None:
    async def one() -> int:
        return 1

    async with node_of(InProcessContext()) as node:
        waiting = await node.start_autonomous_task(asyncio.Event().wait(), "waiting")
        for i in range(3):
            assert await (await node.start_autonomous_task(one(), f"task-{i}")) == 1
        assert node._tasks == {"waiting": waiting}


async def test_a_task_of_a_node_that_was_never_started_ends_with_it() -> None:
    node = node_of(InProcessContext())
    task = await node.start_autonomous_task(asyncio.Event().wait())
    await node.shutdown()
    assert task.cancelled()


@pytest.mark.parametrize("kind", ["process", "dask"])
async def test_senders_that_wait_for_room_are_told_that_the_node_has_stopped(kind: str) -> None:
    local = LocalCluster(n_workers=1, processes=False, dashboard_address=":0", asynchronous=True)
    with dask.config.set({"byzflow.channel.capacity": 1}):  # which hosts learn when they are made
        async with local:
            make = InProcessContext if kind == "process" else partial(DaskContext, local)
            cluster = await cluster_of(make, Topology.complete(3))
            a, b = cluster.nodes["a"], cluster.nodes["b"]
            busy = asyncio.Event()

            async def hang(sender: str, payload: Any) -> None:
                busy.set()
                await asyncio.Event().wait()

            b.register_message_handler("t", hang)
            await a.send_message("b", "t", 0)
            await asyncio.wait_for(busy.wait(), 30)
            sends = [asyncio.create_task(a.send_message("b", "t", i)) for i in range(5)]
            await asyncio.wait(sends, return_when=asyncio.FIRST_COMPLETED, timeout=30)
            await b.shutdown()
            ends = await asyncio.wait_for(asyncio.gather(*sends, return_exceptions=True), 30)
            assert any(end is None for end in ends)
            told = [str(end) for end in ends if isinstance(end, ValueError)]
            assert len(told) == sum(end is not None for end in ends) >= 3
            assert all("'b' is unknown or has stopped" in text for text in told)
            await cluster.shutdown_all()


def test_a_node_whose_event_loop_was_closed_under_it_is_shut_down() -> None:
    node = node_of(InProcessContext())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(node.start())
    (listening,) = asyncio.all_tasks(loop)
    loop.close()
    asyncio.run(node.shutdown())
    assert not node._running
    listening._log_destroy_pending = False  # type: ignore[attr-defined]  # it cannot end any more


async def test_a_context_that_is_shut_down_has_no_messages() -> None:
    context = InProcessContext()
    async with node_of(context):
        pass
    assert (context._inbox.qsize(), context._node) == (0, None)


async def test_nodes_keep_their_places_when_one_is_removed() -> None:
    cluster = await cluster_of(InProcessContext, Topology.ring(3))
    ring = Topology(5, [(i, (i + 1) % 5) for i in range(5)])
    for name in ("d", "e"):
        await cluster.add_node(name, application(), topology=ring, context=InProcessContext())
    for node in cluster.nodes.values():
        node.message_router.topology = ring
    assert cluster.nodes["c"].get_neighbors() == ["d"]
    await cluster.remove_node("b")
    assert (cluster.nodes["c"].get_neighbors(), cluster.nodes["e"].get_neighbors()) == (["d"], ["a"])
    for name in ("new", "newer"):
        await cluster.add_node(name, application(), topology=ring, context=InProcessContext())
    assert cluster.nodes["a"].get_neighbors() == ["new"]
    assert cluster.nodes["new"].get_neighbors() == ["c"]
    with pytest.raises(ValueError, match="'newer' has index 5, which is not in topology"):
        cluster.nodes["newer"].get_neighbors()
    await cluster.shutdown_all()


async def test_a_node_put_among_the_others_by_hand_has_a_place_too() -> None:
    cluster = await cluster_of(InProcessContext, Topology.ring(3))
    cluster.nodes["solo"] = node_of(InProcessContext())
    cluster._update_node_id_maps()
    maps = [node.message_router.node_id_map for node in cluster.nodes.values()]
    assert maps == [{0: "a", 1: "b", 2: "c", 3: "solo"}] * 4
    await cluster.shutdown_all()
