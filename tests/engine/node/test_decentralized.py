"""Contexts, routers, and nodes that listen."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import numpy as np
import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.graph.graph import ComputationGraph, GraphInput, GraphNode
from byzflow.engine.graph.ops import CallableOp, make_single_operator_graph
from byzflow.engine.graph.pool import ActorPoolConfig
from byzflow.engine.node.application import NodeApplication
from byzflow.engine.node.cluster import DecentralizedCluster
from byzflow.engine.node.context import DaskContext, InProcessContext, NodeContext, ProcessContext
from byzflow.engine.node.decentralized import DecentralizedNode
from byzflow.engine.node.router import MessageRouter
from byzflow.engine.peer_to_peer.topology import Topology

NAMES = {0: "a", 1: "b", 2: "c"}


def application(name: str = "app") -> NodeApplication:
    app = NodeApplication(name=name, actor_pool=[ActorPoolConfig("thread")])
    double = CallableOp(lambda x: 2 * x, input_mapping={"x": "x"})
    app.register_pipeline(
        "double", make_single_operator_graph(node_name="y", operator=double, input_keys=["x"])
    )
    source = GraphInput.from_message("value", field="v")
    app.register_pipeline("wait", ComputationGraph([GraphNode("y", double, {"x": source})]))
    return app


async def cluster_of(make: Any, topology: Topology) -> DecentralizedCluster:
    cluster = DecentralizedCluster()
    for name in NAMES.values():
        await cluster.add_node(name, application(name), topology=topology, context=make())
    await cluster.start_all()
    return cluster


@pytest.mark.parametrize("make", [InProcessContext, lambda: DaskContext("thread")], ids=["process", "dask"])
async def test_messages_arrive_in_order_with_sender_and_type(make: Any) -> None:
    cluster = await cluster_of(make, Topology.complete(3))
    got: list[Any] = []
    done = asyncio.Event()

    async def handler(sender: str, payload: Any) -> None:
        got.append((sender, payload["i"], payload["vector"].tolist()))
        if len(got) == 5:
            done.set()

    cluster.nodes["b"].register_message_handler("gradient", handler)
    for i in range(5):
        await cluster.nodes["a"].send_message("b", "gradient", {"i": i, "vector": torch.full((2,), float(i))})
    await asyncio.wait_for(done.wait(), 30)
    assert got == [("a", i, [float(i)] * 2) for i in range(5)]
    await cluster.shutdown_all()


async def test_a_pipeline_waits_for_a_message() -> None:
    cluster = await cluster_of(InProcessContext, Topology.ring(3))
    waiting = asyncio.create_task(cluster.nodes["b"].execute_pipeline("wait", {}))
    await cluster.nodes["a"].broadcast_message("value", {"v": 21})
    assert await asyncio.wait_for(waiting, 30) == {"y": 42}
    assert await cluster.nodes["c"].execute_pipeline("double", {"x": 2}) == {"y": 4}
    await cluster.shutdown_all()


async def test_pipelines_of_one_node_may_wait_at_the_same_time() -> None:
    async with DecentralizedNode(node_id="a", application=application(), context=InProcessContext()) as node:
        tasks = [asyncio.create_task(node.execute_pipeline("wait", {})) for _ in range(2)]
        assert await node.execute_pipeline("double", {"x": 1}) == {"y": 2}
        for value in (1, 2):
            await node.handle_incoming_message("z", "value", {"v": value})
        assert [await task for task in tasks] == [{"y": 2}, {"y": 4}]


@pytest.mark.parametrize("make", [InProcessContext, lambda: DaskContext("thread")], ids=["process", "dask"])
async def test_contexts_start_and_stop_once_and_know_who_runs(make: Any) -> None:
    context: NodeContext = make()
    with pytest.raises(RuntimeError, match="not started"):
        await context.send_message("a", "t", 1)
    node = DecentralizedNode(node_id="solo", application=application(), context=context)
    for _ in range(2):
        await node.start()
    with pytest.raises(ValueError, match="unknown or has stopped"):
        await context.send_message("nobody", "t", 1)
    for _ in range(2):
        await node.shutdown()
    with pytest.raises(RuntimeError, match="not started"):
        await context.send_message("solo", "t", 1)
    with pytest.raises(RuntimeError, match="not started"):
        await node.execute_pipeline("double", {"x": 1})
    await node.start()
    assert await node.execute_pipeline("double", {"x": 1}) == {"y": 2}
    await node.shutdown()


@pytest.mark.processes
async def test_a_process_context_says_which_process_it_uses() -> None:
    context = ProcessContext()
    assert (context._process, context._node_id, context._running) == (None, None, False)
    node = DecentralizedNode(node_id="solo", application=application(), context=context)
    for _ in range(2):
        await node.start()
        assert (context._node_id, context._running) == ("solo", True)
        assert context._process is not None
        assert context._process.is_alive()
        assert context._process.pid != os.getpid()
        await node.shutdown()
        assert (context._process, context._node_id, context._running) == (None, None, False)


async def test_a_handler_that_fails_does_not_end_the_node() -> None:
    cluster = await cluster_of(InProcessContext, Topology.complete(3))
    done = asyncio.Event()

    async def handler(sender: str, payload: Any) -> None:
        if payload == "bad":
            raise ZeroDivisionError
        done.set()

    cluster.nodes["b"].register_message_handler("t", handler)
    await cluster.nodes["a"].send_message("b", "t", "bad")
    await cluster.nodes["a"].send_message("b", "t", "good")
    await asyncio.wait_for(done.wait(), 30)
    await cluster.shutdown_all()


async def test_a_handler_may_be_a_plain_function(caplog: Any) -> None:
    cluster = await cluster_of(InProcessContext, Topology.complete(3))
    heard: list[Any] = []
    done = asyncio.Event()
    a, b = cluster.nodes["a"], cluster.nodes["b"]
    b.register_message_handler("hi", lambda sender, payload: heard.append((sender, payload)))
    b.register_message_handler("last", lambda sender, payload: done.set())
    await a.send_message("b", "hi", 5)
    await a.send_message("b", "last", None)
    await asyncio.wait_for(done.wait(), 10)
    await cluster.shutdown_all()
    assert (heard, caplog.records) == ([("a", 5)], [])


async def test_what_is_no_handler_or_task_is_refused_by_name() -> None:
    cluster = await cluster_of(InProcessContext, Topology.complete(3))
    node: Any = cluster.nodes["a"]
    with pytest.raises(TypeError, match="handler must be a function"):
        node.register_message_handler("hi", None)
    with pytest.raises(TypeError, match=r"needs a coroutine; got function. Call the function"):
        await node.start_autonomous_task(lambda: None)
    await cluster.shutdown_all()


async def test_autonomous_tasks_end_with_the_node() -> None:
    node = DecentralizedNode(node_id="a", application=application(), context=InProcessContext())
    await node.start()
    task = await node.start_autonomous_task(asyncio.Event().wait(), "forever")
    with pytest.raises(ValueError, match="'forever' runs already"):
        await node.start_autonomous_task(asyncio.Event().wait(), "forever")
    await node.shutdown()
    assert task.cancelled()


async def test_clusters_name_their_nodes_once() -> None:
    cluster = DecentralizedCluster()
    await cluster.add_node("a", application(), context=InProcessContext())
    with pytest.raises(ValueError, match="already exists"):
        await cluster.add_node("a", application(), context=InProcessContext())
    assert cluster.get_node("a") is cluster.nodes["a"]
    await cluster.remove_node("a")
    await cluster.remove_node("a")
    assert cluster.get_node("a") is None


def test_a_node_needs_an_id() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        DecentralizedNode(node_id="", application=application(), context=InProcessContext())


def router(topology: Topology | None = None, node_id: Any = "a") -> MessageRouter:
    return MessageRouter(topology=topology, node_id=node_id, node_id_map=NAMES)


def test_neighbours_come_from_the_topology_each_once_and_never_oneself() -> None:
    ring = Topology(3, [(0, 1), (0, 1), (0, 0), (2, 0)])
    assert router(ring).get_out_neighbors() == ["b"]
    assert router(ring).get_out_neighbors_internal() == [1]
    assert router(ring).get_in_neighbors() == ["c"]
    assert MessageRouter(topology=ring, node_id=0).get_out_neighbors() == [1]
    assert MessageRouter(topology=ring, node_id=np.int64(0)).get_out_neighbors() == [1]
    assert router().get_out_neighbors() == []
    assert router().can_send_to("anyone")
    assert not router().can_send_to("a")
    with pytest.raises(ValueError, match="not in topology"):
        MessageRouter(topology=ring, node_id=3)


class Sink(InProcessContext):
    """Takes what is sent, but not for c."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, str, Any]] = []

    async def send_message(self, to_node_id: str, message_type: str, payload: Any) -> None:
        if to_node_id == "c":
            raise ValueError("c is gone")
        self.sent.append((to_node_id, message_type, payload))


async def test_routes() -> None:
    sink, complete = Sink(), router(Topology.complete(3))
    await complete.route_direct("b", "t", 1, sink)
    await complete.route_broadcast("t", 2, sink)
    await complete.route_multicast([], "t", 3, sink)
    await complete.route_reply({"from": "b"}, "t", 4, sink)
    await complete.route_message(None, "t", 5, sink)
    assert sink.sent == [("b", "t", i) for i in (1, 2, 4, 5)]
    with pytest.raises(ValueError, match="cannot send to self"):
        await complete.route_direct("a", "t", 0, sink)
    with pytest.raises(ValueError, match="is not a neighbor"):
        await router(Topology.ring(3)).route_multicast(["b", "z"], "t", 0, sink)
    with pytest.raises(ValueError, match="c is gone"):
        await complete.route_message(["b", "c"], "t", 6, sink)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, asyncio.CancelledError])
async def test_a_broadcast_passes_over_whoever_it_fails_for(error: Any, caplog: Any) -> None:
    class Broken(Sink):
        async def send_message(self, to_node_id: str, message_type: str, payload: Any) -> None:
            if to_node_id == "b":
                raise error("the link is cut")
            self.sent.append((to_node_id, message_type, payload))

    broken = Broken()
    await router(Topology.complete(3)).route_broadcast("t", 1, broken)
    assert broken.sent == [("c", "t", 1)]
    (record,) = caplog.records
    assert "Node b did not get 't' from a" in record.getMessage()
    assert "the link is cut" in record.getMessage()


async def test_an_aggregate_over_messages() -> None:
    app = application()
    graph = make_single_operator_graph(
        node_name="out", operator=CoordinateWiseMedian(), input_keys=["gradients"]
    )
    app.register_pipeline("aggregate", graph)
    async with DecentralizedNode(node_id="a", application=app, context=InProcessContext()) as node:
        vectors = [torch.full((2,), float(i)) for i in (1, 5, 9)]
        out = await node.execute_pipeline("aggregate", {"gradients": vectors})
        assert out["out"].tolist() == [5.0, 5.0]


async def test_a_cluster_whose_start_is_cancelled_stops_who_was_started() -> None:
    class Never(InProcessContext):
        async def start(self, node: Any) -> None:
            await asyncio.Event().wait()

    cluster = DecentralizedCluster()
    quick = await cluster.add_node("quick", application(), context=InProcessContext())
    await cluster.add_node("slow", application(), context=Never())
    starting = asyncio.create_task(cluster.start_all())
    while not quick._running:  # noqa: ASYNC110  # what is waited for has no event
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not quick._running


@pytest.mark.parametrize("make", [InProcessContext, lambda: DaskContext("thread")], ids=["process", "dask"])
def test_a_cluster_stops_and_starts_again_in_another_event_loop(make: Any) -> None:
    cluster = asyncio.run(cluster_of(make, Topology.complete(3)))
    asyncio.run(cluster.shutdown_all())
    assert not any(node.context._running for node in cluster.nodes.values())

    async def again() -> dict[str, Any]:
        await cluster.start_all()
        await cluster.nodes["a"].send_message("b", "value", {"v": 21})
        answer = await asyncio.wait_for(cluster.nodes["b"].execute_pipeline("wait", {}), 30)
        await cluster.shutdown_all()
        return answer

    assert asyncio.run(again()) == {"y": 42}


async def test_a_cluster_stopped_from_another_thread_ends_its_tasks_in_their_loop() -> None:
    cluster = await cluster_of(InProcessContext, Topology.complete(3))
    node = cluster.nodes["a"]
    task = await node.start_autonomous_task(asyncio.Event().wait())
    await asyncio.to_thread(lambda: asyncio.run(cluster.shutdown_all()))
    await asyncio.wait([task], timeout=30)
    assert task.cancelled()


@pytest.mark.parametrize("make", [InProcessContext, lambda: DaskContext("thread")], ids=["process", "dask"])
async def test_clusters_whose_nodes_have_the_same_ids_do_not_mix(make: Any) -> None:
    first, second = [await cluster_of(make, Topology.complete(3)) for _ in range(2)]
    for cluster, value in ((first, 1), (second, 2)):
        await cluster.nodes["a"].send_message("b", "value", {"v": value})
    for cluster, answer in ((first, 2), (second, 4)):
        pipeline = cluster.nodes["b"].execute_pipeline("wait", {})
        assert await asyncio.wait_for(pipeline, 30) == {"y": answer}
    await second.nodes["b"].shutdown()
    with pytest.raises(ValueError, match="'b' is unknown or has stopped"):
        await second.nodes["a"].send_message("b", "value", {"v": 3})
    await first.shutdown_all()
    await second.shutdown_all()


async def test_contexts_of_different_kinds_in_a_cluster_say_that_they_do_not_meet() -> None:
    cluster = DecentralizedCluster()
    await cluster.add_node("a", application(), context=InProcessContext())
    await cluster.add_node("b", application(), context=DaskContext("thread"))
    await cluster.start_all()
    for sender, receiver, kind in (("a", "b", "DaskContext"), ("b", "a", "InProcessContext")):
        with pytest.raises(ValueError, match=f"{receiver!r} has a {kind}, and this is a"):
            await cluster.nodes[sender].send_message(receiver, "t", 1)
    await cluster.shutdown_all()


@pytest.mark.parametrize("make", [InProcessContext, lambda: DaskContext("thread")], ids=["process", "dask"])
async def test_nodes_of_a_cluster_reach_a_node_outside(make: Any) -> None:
    cluster = DecentralizedCluster()
    await cluster.add_node("a", application(), context=make())
    outside = DecentralizedNode(node_id="z", application=application(), context=make())
    await cluster.start_all()
    async with outside:
        await cluster.nodes["a"].send_message("z", "value", {"v": 1})
        assert await asyncio.wait_for(outside.execute_pipeline("wait", {}), 30) == {"y": 2}
    await cluster.shutdown_all()
