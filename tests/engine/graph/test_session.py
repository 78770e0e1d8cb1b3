"""A session computes again exactly what has changed."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.engine.graph.graph import ComputationGraph, GraphNode, graph_input
from byzflow.engine.graph.ops import CallableOp
from byzflow.engine.graph.session import ExecutionFuture, ExecutionSession
from byzflow.pre_aggregators import Clipping


def counted(calls):
    """Return a chain a -> b, with c beside it, that counts its calls."""

    def op(name):
        def fn(x):
            calls.append(name)
            return x + 1

        return CallableOp(fn, input_mapping={"x": "x"})

    return ComputationGraph(
        [
            GraphNode("a", op("a"), {"x": graph_input("x")}),
            GraphNode("b", op("b"), {"x": "a"}),
            GraphNode("c", op("c"), {"x": graph_input("y")}),
        ],
        outputs=["b", "c"],
    )


async def test_equal_inputs_are_computed_once():
    calls = []
    graph = counted(calls)
    async with ExecutionSession() as session:
        for _ in range(2):
            assert await session.execute(graph, {"x": np.ones(1), "y": 0}) == {"b": 3.0, "c": 1}
    assert calls == ["a", "b", "c"]


async def test_only_what_reads_a_new_input_is_computed_again():
    calls = []
    graph = counted(calls)
    session = ExecutionSession()
    await session.execute(graph, {"x": 1, "y": 0})
    assert await session.execute(graph, {"x": 1, "y": 5}) == {"b": 3, "c": 6}
    assert await session.execute(graph, {"x": 2, "y": 5}) == {"b": 4, "c": 6}
    assert calls == ["a", "b", "c", "c", "a", "b"]


async def test_an_array_changed_in_place_is_a_new_input():
    session, calls = ExecutionSession(), []
    graph = counted(calls)
    x = torch.zeros(2, dtype=torch.bfloat16)
    await session.execute(graph, {"x": x, "y": 0})
    x += 1
    got = await session.execute(graph, {"x": x, "y": 0})
    assert got["b"].tolist() == [3.0, 3.0]


@pytest.mark.parametrize("x", [torch.tensor(2.0), torch.tensor([2.0, 3.0])[::2]])
async def test_a_tensor_of_one_entry_may_be_an_input(x):
    session, calls = ExecutionSession(), []
    graph = counted(calls)
    for _ in range(2):
        assert (await session.execute(graph, {"x": x, "y": 0}))["b"] == 4.0
    assert calls.count("b") == 1


async def test_rules_are_compared_by_their_options():
    rows = [torch.randn(5, generator=torch.Generator().manual_seed(i)) for i in range(6)]

    def graph(threshold):
        return ComputationGraph(
            [
                GraphNode("clip", Clipping(threshold), {"vectors": graph_input("g")}),
                GraphNode("krum", MultiKrum(1, 2), {"gradients": "clip"}),
            ]
        )

    session = ExecutionSession()
    first = (await session.execute(graph(1.0), {"g": rows}))["krum"]
    assert (await session.execute(graph(1.0), {"g": rows}))["krum"] is first
    assert not torch.equal((await session.execute(graph(0.5), {"g": rows}))["krum"], first)
    assert session.is_cached("clip")


async def test_what_is_kept_can_be_asked_for_and_forgotten():
    session = ExecutionSession()
    await session.execute(counted([]), {"x": 1, "y": 0})
    assert session.is_cached("a")
    assert session.get_cached("a") == 2
    assert set(session._result_cache) == {"a", "b", "c"}
    session.clear_cache()
    with pytest.raises(KeyError, match="'a'"):
        session.get_cached("a")


async def test_nothing_is_kept_if_that_is_asked_for():
    calls = []
    graph, session = counted(calls), ExecutionSession(cache_intermediate=False)
    for _ in range(2):
        await session.execute(graph, {"x": 1, "y": 0})
    assert len(calls) == 6
    assert not session.is_cached("a")


async def test_a_missing_input_is_named():
    with pytest.raises(ValueError, match="Missing graph inputs"):
        await ExecutionSession().execute(counted([]), {"x": 1})


async def test_a_started_run_is_a_future():
    future = ExecutionSession().execute_async(counted([]), {"x": 1, "y": 0})
    assert future.output_keys == ("b", "c")
    assert not future.done()
    with pytest.raises(RuntimeError, match="Cannot call result"):
        future.result()
    assert await future == {"b": 3, "c": 1} == await future.wait()
    assert future.done()


async def test_a_started_run_can_be_cancelled():
    future = ExecutionSession().execute_async(counted([]), {"x": 1, "y": 0})
    assert future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    assert future.cancelled()


def test_result_waits_where_no_loop_runs():
    loop = asyncio.new_event_loop()
    future = ExecutionFuture(
        loop.create_task(ExecutionSession().execute(counted([]), {"x": 1, "y": 0})), ["b", "c"]
    )
    assert future.result(timeout=5) == {"b": 3, "c": 1}
    assert future.result() == {"b": 3, "c": 1}
    loop.close()
