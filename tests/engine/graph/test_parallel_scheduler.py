"""Limits hold, and without them independent nodes run together."""

from __future__ import annotations

import asyncio

import pytest

from byzflow.engine.graph.graph import ComputationGraph, GraphNode
from byzflow.engine.graph.ops import CallableOp
from byzflow.engine.graph.parallel_scheduler import ParallelScheduler
from byzflow.operators.base import Operator, SubTask
from tests.engine.graph.pools import FakePool


class Meter:
    """Count how many are inside at once."""

    def __init__(self):
        self.now = self.most = 0

    async def visit(self):
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(3):
            await asyncio.sleep(0)
        self.now -= 1


def visitors(meter, count=5):
    op = CallableOp(meter.visit, input_mapping={})
    return ComputationGraph([GraphNode(str(i), op) for i in range(count)])


@pytest.mark.parametrize(("limit", "most"), [(None, 5), (2, 2), (1, 1)])
async def test_no_more_nodes_than_allowed_run_at_once(limit, most):
    meter = Meter()
    await ParallelScheduler(visitors(meter), max_concurrent_nodes=limit).run({})
    assert meter.most == most


async def test_no_more_subtasks_than_allowed_are_under_way():
    meter = Meter()

    class Pool(FakePool):
        async def run_subtask(self, subtask):
            await meter.visit()
            return 1

    class Many(Operator):
        supports_subtasks = True

        def create_subtasks(self, inputs, *, context):
            return [SubTask(int)] * 6

        def reduce_subtasks(self, partials, inputs, *, context):
            return sum(partials)

    graph = ComputationGraph([GraphNode(name, Many()) for name in "ab"], outputs=["a", "b"])
    scheduler = ParallelScheduler(graph, pool=Pool(2), max_pending_subtasks=3)
    assert await scheduler.run({}) == {"a": 6, "b": 6}
    assert meter.most == 3


def test_the_limit_of_subtasks_defaults_to_eight_per_worker():
    graph = visitors(Meter())
    assert ParallelScheduler(graph).max_pending_subtasks is None
    assert "subtask_semaphore" not in ParallelScheduler(graph).metadata
    assert ParallelScheduler(graph, pool=FakePool(3)).metadata["subtask_semaphore"]._value == 24
    assert (
        "subtask_semaphore" not in ParallelScheduler(graph, pool=FakePool(3), max_pending_subtasks=0).metadata
    )


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="max_concurrent_nodes"):
        ParallelScheduler(visitors(Meter()), max_concurrent_nodes=0)


def test_one_scheduler_serves_several_event_loops():
    meter = Meter()
    scheduler = ParallelScheduler(visitors(meter), max_concurrent_nodes=1)
    for _ in range(2):
        asyncio.run(scheduler.run({}))
    assert meter.most == 1
