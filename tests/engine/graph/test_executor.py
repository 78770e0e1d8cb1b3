"""One operator can be run without a graph, with and without workers of its own."""

from __future__ import annotations

import asyncio
import inspect

import numpy as np
import pytest

import byzflow.engine.graph.executor as executor_module
from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.attacks import EmpireAttack
from byzflow.engine.graph.executor import OperatorExecutor, _detect_input_keys, run_operator
from byzflow.engine.graph.ops import CallableOp
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.operators.base import Operator, SubTask
from byzflow.pre_aggregators import Clipping

ROWS = [np.full(4, x) for x in (1.0, 2.0, 9.0)]
POOL = ActorPoolConfig("thread", count=2)


class Barriered(Operator):
    """Add up on the pool in two rounds."""

    name = "barriered"
    supports_barriered_subtasks = True

    async def run_barriered_subtasks(self, inputs, *, context, pool):
        first = await self._run_subtasks(pool, [SubTask(sum, (xs,)) for xs in inputs["xs"]], None, context)
        (total,) = await self._run_subtasks(pool, [SubTask(sum, (first,))], None, context)
        return total


async def test_an_aggregator_runs_in_place():
    np.testing.assert_array_equal(
        await run_operator(CoordinateWiseMedian(), {"gradients": ROWS}), np.full(4, 2.0)
    )


async def test_a_single_other_key_is_handed_over_under_the_operators_own():
    executor = OperatorExecutor(CoordinateWiseMedian(), input_keys=["rows"])
    assert executor.input_keys == ("rows",)
    np.testing.assert_array_equal(await executor.run({"rows": ROWS}), np.full(4, 2.0))


async def test_an_attack_runs_with_keys():
    got = await run_operator(EmpireAttack(), {"honest_grads": ROWS}, input_keys=["honest_grads"])
    np.testing.assert_array_equal(got, np.full(4, -4.0))


async def test_workers_live_as_long_as_the_context():
    executor = OperatorExecutor(Barriered(), input_keys=["xs"], pool_config=POOL)
    assert executor._pool is None
    async with executor:
        pool = executor._pool
        assert pool.size == 2
        assert [await executor.run({"xs": [[1, 2], [3]]}), await executor.run({"xs": [[4]]})] == [6, 4]
        assert executor._pool is pool
        assert executor._pool_managed
    assert executor._pool is None
    assert not executor._pool_managed


async def test_a_call_outside_the_context_brings_its_own_workers():
    assert await run_operator(Barriered(), {"xs": [[1, 2], [3]]}, pool_config=[POOL], input_keys=["xs"]) == 6


async def test_calls_outside_the_context_at_the_same_time_have_workers_of_their_own(monkeypatch):
    pools = []

    class Noted(ActorPool):
        def __init__(self, configs):
            super().__init__(configs)
            pools.append(self)

    monkeypatch.setattr(executor_module, "ActorPool", Noted)
    executor = OperatorExecutor(Barriered(), input_keys=["xs"], pool_config=POOL)
    assert await asyncio.gather(*(executor.run({"xs": [[1, 2], [n]]}) for n in range(3))) == [3, 4, 5]
    assert [pool.worker_affinities() for pool in pools] == [()] * 3


async def test_all_who_are_inside_at_the_same_time_share_the_workers_until_the_last_one_leaves():
    executor = OperatorExecutor(Barriered(), input_keys=["xs"], pool_config=POOL)
    pools = []

    async def inside(n):
        async with executor:
            pools.append(executor._pool)
            return await executor.run({"xs": [[1, 2], [n]]})

    assert await asyncio.gather(*map(inside, range(3))) == [3, 4, 5]
    assert len(set(pools)) == 1
    assert (executor._pool, pools[0].worker_affinities()) == (None, ())


async def test_an_executor_whose_workers_cannot_start_is_as_it_was():
    executor = OperatorExecutor(Barriered(), input_keys=["xs"], pool_config=ActorPoolConfig("nothing"))
    with pytest.raises(ValueError, match="A backend must be"):
        async with executor:
            pass
    assert (executor._pool, executor._pool_managed) == (None, False)


async def test_the_pool_is_shut_down_when_the_operator_fails():
    executor = OperatorExecutor(Barriered(), input_keys=["xs"], pool_config=POOL)
    with pytest.raises(TypeError):
        async with executor:
            await executor.run({"xs": [["a"]]})
    assert executor._pool is None


def test_the_node_is_named_after_the_operator():
    assert OperatorExecutor(Clipping(1.0)).node_name == "pre-agg/clipping"
    assert OperatorExecutor(Clipping(1.0), node_name="clip").node_name == "clip"


def test_only_an_operator_is_taken():
    with pytest.raises(TypeError, match="must be an Operator instance"):
        OperatorExecutor(lambda: None)


@pytest.mark.parametrize("op", [EmpireAttack(), CallableOp(print, input_mapping={})])
def test_keys_are_not_guessed(op):
    with pytest.raises(ValueError, match="Cannot auto-detect input keys"):
        OperatorExecutor(op)


def test_letters_are_no_keys():
    with pytest.raises(TypeError, match="input_keys must be a sequence; got str"):
        OperatorExecutor(EmpireAttack(), input_keys="honest_grads")


def test_rules_know_their_key():
    assert _detect_input_keys(CoordinateWiseMedian()) == ("gradients",)
    assert _detect_input_keys(Clipping(1.0)) == ("vectors",)


async def test_a_missing_input_is_named():
    with pytest.raises(ValueError, match="Missing graph inputs"):
        await run_operator(CoordinateWiseMedian(), {"vectors": ROWS})


def test_run_operator_explains_itself():
    for word in ("operator", "inputs", "pool_config", "Returns"):
        assert word in run_operator.__doc__
    assert set(inspect.get_annotations(run_operator)) == {
        "operator",
        "inputs",
        "pool_config",
        "input_keys",
        "return",
    }
