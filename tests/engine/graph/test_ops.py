"""Operators made of functions call them with mapped arguments, here or on one worker."""

from __future__ import annotations

import threading

import pytest

from byzflow.engine.graph.graph import ComputationGraph, GraphInput, GraphNode
from byzflow.engine.graph.ops import CallableOp, RemoteCallableOp, make_single_operator_graph
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.engine.graph.scheduler import NodeScheduler
from byzflow.operators.base import OpContext
from tests.engine.graph.pools import FakePool


def single(op, *keys):
    return make_single_operator_graph(node_name="node", operator=op, input_keys=keys)


async def test_parameters_are_mapped_to_input_keys():
    op = CallableOp(lambda a, b: a - b, input_mapping={"a": "x", "b": "y"})
    assert await NodeScheduler(single(op, "x", "y")).run({"x": 5, "y": 3}) == {"node": 2}


async def test_a_coroutine_function_is_awaited():
    async def double(x):
        return 2 * x

    op = CallableOp(double, input_mapping={"x": "x"})
    assert await NodeScheduler(single(op, "x")).run({"x": 5}) == {"node": 10}


@pytest.mark.parametrize("kind", [CallableOp, RemoteCallableOp])
def test_a_missing_input_is_named(kind):
    op = kind(lambda a: a, input_mapping={"a": "x"})
    with pytest.raises(KeyError, match="x"):
        op.compute({"y": 1}, context=OpContext("node"))


async def test_a_callable_runs_in_the_callers_thread_even_with_a_pool():
    seen = []
    op = CallableOp(lambda: seen.append(threading.get_ident()), input_mapping={})
    await NodeScheduler(single(op), pool=FakePool(2)).run({})
    assert seen == [threading.get_ident()]


async def test_a_remote_callable_is_one_subtask_on_a_pool_of_two():
    seen, pool = [], FakePool(2)
    op = RemoteCallableOp(lambda x: seen.append(threading.get_ident()) or x, input_mapping={"x": "x"})
    assert await NodeScheduler(single(op, "x"), pool=pool).run({"x": 7}) == {"node": 7}
    assert len(pool.subtasks) == 1
    assert seen != [threading.get_ident()]


async def test_remote_callables_that_do_not_need_each_other_run_on_different_workers():
    both = threading.Barrier(2)
    op = RemoteCallableOp(lambda: both.wait(30) is not None, input_mapping={})
    graph = ComputationGraph([GraphNode("a", op), GraphNode("b", op)], outputs=["a", "b"])
    async with ActorPool([ActorPoolConfig("thread", count=2)]) as pool:
        assert await NodeScheduler(graph, pool=pool).run({}) == {"a": True, "b": True}


@pytest.mark.parametrize("pool", [None, FakePool(1)])
async def test_a_remote_callable_runs_in_place_without_a_second_worker(pool):
    op = RemoteCallableOp(threading.get_ident, input_mapping={})
    assert await NodeScheduler(single(op), pool=pool).run({}) == {"node": threading.get_ident()}


def test_the_single_operator_graph_wires_each_key_to_its_input():
    graph = single(CallableOp(print, input_mapping={}), "a", "b")
    (node,) = graph.nodes_in_order()
    assert node.inputs == {"a": GraphInput("a"), "b": GraphInput("b")}
    assert graph.outputs == ["node"]
