"""A run evaluates each node once, as early as it can, and says what went wrong."""

from __future__ import annotations

import asyncio

import pytest

from byzflow.engine.graph.graph import ComputationGraph, GraphInput, GraphNode, graph_input
from byzflow.engine.graph.ops import CallableOp, make_single_operator_graph
from byzflow.engine.graph.scheduler import MessageAwareNodeScheduler, MessageSource, NodeScheduler
from byzflow.operators.base import MessageTriggerOp, Operator, SubTask
from tests.engine.graph.pools import FakePool


def call(name, fn, **inputs):
    return GraphNode(name, CallableOp(fn, input_mapping={key: key for key in inputs}), inputs)


class Spy(Operator):
    """Keep the contexts it is run with."""

    def __init__(self):
        self.contexts = []

    def compute(self, inputs, *, context):
        self.contexts.append(context)
        return len(self.contexts)


class Halves(Operator):
    """Sum two halves of a list on two workers."""

    supports_subtasks = True

    def create_subtasks(self, inputs, *, context):
        xs = inputs["xs"]
        return [SubTask(sum, (xs[i::2],)) for i in range(2)]

    async def reduce_subtasks(self, partials, inputs, *, context):
        return sum(partials)


async def test_a_diamond_gives_the_outputs_that_were_asked_for():
    graph = ComputationGraph(
        [
            call("a", lambda x: x + 1, x=graph_input("x")),
            call("b", lambda v: 2 * v, v="a"),
            call("c", lambda v: 3 * v, v="a"),
            call("d", lambda p, q: p + q, p="b", q="c"),
        ],
        outputs=["d", "a"],
    )
    assert await NodeScheduler(graph).run({"x": 1, "unused": 0}) == {"d": 10, "a": 2}


async def test_missing_inputs_are_named():
    graph = ComputationGraph([call("a", lambda x: x, x=graph_input("x"))])
    with pytest.raises(ValueError, match=r"Missing graph inputs: \['x'\]"):
        await NodeScheduler(graph).run({"y": 1})


async def test_independent_nodes_run_at_the_same_time():
    barrier = asyncio.Barrier(3)
    nodes = [call(name, barrier.wait) for name in "abc"]
    graph = ComputationGraph(nodes, outputs=["a", "b", "c"])
    async with asyncio.timeout(30):
        values = await NodeScheduler(graph).run({})
    assert sorted(values.values()) == [0, 1, 2]


async def test_an_error_is_raised_unchanged_and_stops_the_other_nodes():
    error, stopped = LookupError("mine"), asyncio.Event()

    async def endless():
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async def fail():
        raise error

    graph = ComputationGraph([call("a", endless), call("b", fail), call("c", print, x="b")])
    with pytest.raises(LookupError) as caught:
        await NodeScheduler(graph).run({})
    assert caught.value is error
    assert caught.value.__context__ is None
    assert stopped.is_set()


async def test_cancelling_a_run_cancels_its_nodes_and_leaves_the_scheduler_usable():
    started, gate = asyncio.Event(), asyncio.Event()

    async def wait():
        started.set()
        await gate.wait()
        return 1

    scheduler = NodeScheduler(ComputationGraph([call("a", wait), call("b", wait)]))
    task = asyncio.create_task(scheduler.run({}))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    assert await scheduler.run({}) == {"b": 1}


async def test_without_a_pool_the_metadata_is_what_was_given():
    spy = Spy()
    graph = make_single_operator_graph(node_name="spy", operator=spy, input_keys=[])
    given = {"round": 3}
    await NodeScheduler(graph, metadata=given).run({})
    await NodeScheduler(graph).run({})
    assert [context.metadata for context in spy.contexts] == [given, {}]
    assert spy.contexts[0].node_name == "spy"
    assert spy.contexts[0].metadata is not given


async def test_a_pool_adds_its_size_and_affinities_unless_they_are_given():
    spy, pool = Spy(), FakePool(3)
    pool.worker_affinities = lambda: ("worker::a-0",)
    graph = make_single_operator_graph(node_name="spy", operator=spy, input_keys=[])
    await NodeScheduler(graph, pool=pool).run({})
    await NodeScheduler(graph, pool=FakePool(3), metadata={"pool_size": 9}).run({})
    assert spy.contexts[0].metadata == {"pool_size": 3, "worker_affinities": ("worker::a-0",)}
    assert spy.contexts[1].metadata == {"pool_size": 9, "worker_affinities": ()}


async def test_compute_runs_on_the_very_object_each_time():
    spy = Spy()
    scheduler = NodeScheduler(
        make_single_operator_graph(node_name="spy", operator=spy, input_keys=[]), pool=FakePool()
    )
    assert [await scheduler.run({}), await scheduler.run({})] == [{"spy": 1}, {"spy": 2}]


async def test_subtasks_go_to_the_pool():
    pool = FakePool(2)
    graph = make_single_operator_graph(node_name="sum", operator=Halves(), input_keys=["xs"])
    assert await NodeScheduler(graph, pool=pool).run({"xs": [1, 2, 3]}) == {"sum": 6}
    assert len(pool.subtasks) == 2


def test_a_source_that_was_not_computed_is_named():
    node = call("b", print, x="a")
    with pytest.raises(KeyError, match="has not been computed"):
        NodeScheduler(ComputationGraph([call("a", print), node]))._resolve_inputs(node, {})


async def test_a_source_that_was_not_computed_is_named_by_the_message_aware_scheduler():
    node = call("b", print, x="a")
    with pytest.raises(KeyError, match="has not been computed"):
        await MessageAwareNodeScheduler(ComputationGraph([call("a", print), node]))._resolve_inputs(node, {})


async def test_a_message_source_needs_the_message_aware_scheduler():
    graph = ComputationGraph([call("a", print, x=GraphInput.from_message("m"))])
    with pytest.raises(TypeError, match="MessageAwareNodeScheduler"):
        await NodeScheduler(graph).run({})


def on_message(source):
    return MessageAwareNodeScheduler(ComputationGraph([call("a", lambda x: x, x=source)]))


async def test_a_node_waits_for_its_message():
    scheduler = on_message(GraphInput.from_message("m", field="x"))
    task = asyncio.create_task(scheduler.run({}))
    await asyncio.sleep(0)
    assert scheduler.statistics().waiting == 1
    scheduler.deliver_message("m", {"x": 4})
    assert await task == {"a": 4}
    assert scheduler.statistics() == (0, 0)


async def test_one_message_serves_one_of_two_nodes():
    graph = ComputationGraph(
        [call(name, lambda x: x, x=GraphInput.from_message("m")) for name in "ab"], outputs=["a", "b"]
    )
    scheduler = MessageAwareNodeScheduler(graph)
    scheduler.deliver_message("m", 1)
    scheduler.deliver_message("m", 2)
    assert await scheduler.run({}) == {"a": 1, "b": 2}


@pytest.mark.parametrize(("payload", "error"), [(3, TypeError), ({"y": 1}, KeyError)])
async def test_a_payload_without_the_field_is_refused(payload, error):
    scheduler = on_message(GraphInput.from_message("m", field="x"))
    scheduler.deliver_message("m", payload)
    with pytest.raises(error, match="x"):
        await scheduler.run({})


async def test_a_message_that_does_not_come_times_out():
    with pytest.raises(TimeoutError, match="'m'"):
        await on_message(MessageSource("m", timeout=0.001)).run({})


async def test_an_input_value_may_be_a_message():
    scheduler = on_message(graph_input("v"))
    scheduler.deliver_message("m", 5)
    assert await scheduler.run({"v": MessageSource("m")}) == {"a": 5}


async def test_message_trigger_op_takes_the_message():
    graph = make_single_operator_graph(
        node_name="t", operator=MessageTriggerOp("m", timeout=5), input_keys=[]
    )
    scheduler = MessageAwareNodeScheduler(graph)
    scheduler.deliver_message("m", 6)
    assert await scheduler.run({}) == {"t": 6}
