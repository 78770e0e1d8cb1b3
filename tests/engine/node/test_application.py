"""Pipelines of nodes: names, metadata, sync twins, and nodes whose work runs on a pool."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import cloudpickle
import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.attacks.empire import EmpireAttack
from byzflow.attacks.sign_flip import SignFlipAttack
from byzflow.engine.graph.graph import ComputationGraph
from byzflow.engine.graph.ops import CallableOp, make_single_operator_graph
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.engine.graph.scheduler import MessageAwareNodeScheduler
from byzflow.engine.node.application import (
    ByzantineNodeApplication,
    HonestNodeApplication,
    NodeApplication,
)
from byzflow.engine.node.distributed import DistributedByzantineNode, DistributedHonestNode
from byzflow.engine.rounds.resident import Resident
from byzflow.operators.base import Operator

POOL = [ActorPoolConfig("thread", count=2)]
VECTORS = [torch.tensor([float(i), -float(i)]) for i in (1, 2, 9)]


def graph(operator: Operator, *keys: str) -> ComputationGraph:
    return make_single_operator_graph(node_name="out", operator=operator, input_keys=keys)


class Told(Operator):
    """Returns the metadata it is told."""

    def compute(self, inputs: Any, *, context: Any) -> Any:
        return dict(context.metadata)


def test_metadata_of_a_call_wins_over_pipeline_over_application() -> None:
    app = NodeApplication(name="n", actor_pool=POOL, metadata={"a": 0, "b": 0, "c": 0})
    app.register_pipeline("p", graph(Told()), metadata={"b": 1, "c": 1})
    told = app.run_pipeline_sync("p", {}, metadata={"c": 2})["out"]
    assert {key: told[key] for key in ("node", "pipeline", "a", "b", "c")} == {
        "node": "n", "pipeline": "p", "a": 0, "b": 1, "c": 2,
    }  # fmt: skip


def test_names_are_unique_and_unknown_ones_are_key_errors() -> None:
    app = NodeApplication(name="n", actor_pool=POOL)
    names = app.list_pipelines()
    app.register_pipeline("double", graph(Told()))
    assert list(names) == ["double"]
    assert app.has_pipeline("double")
    with pytest.raises(ValueError, match="is taken"):
        app.register_pipeline("double", graph(Told()))
    with pytest.raises(KeyError, match="Did you mean 'double'"):
        app.run_pipeline_sync("doubel", {})


async def test_sync_twins_work_inside_a_running_loop() -> None:
    app = HonestNodeApplication(name="n", actor_pool=ActorPool(POOL))
    app.register_pipeline("aggregate", graph(CoordinateWiseMedian(), "gradients"))
    app.register_pipeline(
        "honest_gradient", graph(CallableOp(lambda x: x + 1, input_mapping={"x": "x"}), "x")
    )
    assert app.aggregate_sync(gradients=VECTORS).tolist() == [2.0, -2.0]
    assert (await app.aggregate(gradients=VECTORS)).tolist() == [2.0, -2.0]
    assert app.honest_gradient_sync({"x": 1}) == 2
    assert await app.honest_gradient({"x": 2}) == 3
    await app.shutdown()


async def test_an_attack_pipeline_runs() -> None:
    app = ByzantineNodeApplication(name="b", actor_pool=POOL)
    with pytest.raises(KeyError, match="attack"):
        await app.run_attack(inputs={})
    app.register_pipeline("attack", graph(EmpireAttack(), "honest_grads"))
    assert (await app.run_attack(inputs={"honest_grads": VECTORS})).tolist() == [-4.0, 4.0]
    assert app.run_attack_sync(inputs={"honest_grads": VECTORS}).tolist() == [-4.0, 4.0]
    await app.shutdown()


class Honest(DistributedHonestNode):
    def next_batch(self) -> tuple[Any, Any]:
        return torch.ones(2), torch.zeros(2)

    def local_honest_gradient(self, *, x: Any, y: Any) -> Any:
        return 2 * x + y

    def apply_server_gradient(self, vec: Any) -> None:
        self.vec = vec


async def test_a_distributed_honest_node_computes_and_aggregates() -> None:
    node = Honest(actor_pool=POOL, aggregator=CoordinateWiseMedian())
    assert node.application.name == "Honest"
    assert node.honest_gradient_for_next_batch().tolist() == [2.0, 2.0]
    assert node.aggregate_sync(VECTORS).tolist() == [2.0, -2.0]
    assert (await node.aggregate(VECTORS)).tolist() == [2.0, -2.0]
    await node.shutdown_distributed()


class Own(DistributedByzantineNode):
    scale = 3.0

    def byzantine_gradient(self, honest_grads: Any, base_grad: Any = None) -> Any:  # type: ignore[override]  # any subset
        self.thread = threading.get_ident()
        return self.scale * honest_grads[0], threading.get_ident()


async def test_an_attack_of_the_subclass_runs_on_a_worker() -> None:
    node = Own(actor_pool=POOL)
    vector, thread = node.byzantine_gradient(None, None, honest_grads=VECTORS)
    assert vector.tolist() == [3.0, -3.0]
    assert thread != threading.get_ident()
    with pytest.raises(ValueError, match="needs honest_grads"):
        await node.byzantine_gradient_async()
    with pytest.raises(RuntimeError, match="defines byzantine_gradient itself"):
        node.prepare_attack_inputs(honest_grads=VECTORS)
    await node.shutdown_distributed()


async def test_a_given_attack_gets_what_its_flags_ask_for() -> None:
    node = DistributedByzantineNode(actor_pool=POOL, attack=SignFlipAttack())
    assert node.prepare_attack_inputs(base_grad=1, x=2) == {"base_grad": 1}
    with pytest.raises(ValueError, match="SignFlipAttack needs base_grad"):
        node.prepare_attack_inputs()
    flipped = await node.byzantine_gradient_async(base_grad=VECTORS[0])
    assert flipped.tolist() == [-1.0, 1.0]
    await node.shutdown_distributed()


class Stepping(DistributedHonestNode):
    def __init__(self, start: float) -> None:
        super().__init__(actor_pool=POOL, aggregator=CoordinateWiseMedian())
        self.w = torch.full((2,), start)

    def next_batch(self) -> tuple[Any, Any]:
        return torch.ones(2), torch.ones(2)

    def local_honest_gradient(self, *, x: Any, y: Any) -> Any:
        return self.w + x

    def apply_server_gradient(self, vec: Any) -> None:
        self.w = self.w - vec


class Growing(DistributedByzantineNode):
    def __init__(self) -> None:
        super().__init__(actor_pool=POOL)
        self.seen = 0

    def byzantine_gradient(self, honest_grads: Any) -> Any:
        return self.seen * honest_grads[0]

    def apply_server_gradient(self, vec: Any) -> None:
        self.seen += 1


@pytest.mark.parametrize(
    "travel", [None, copy.deepcopy, lambda node: cloudpickle.loads(cloudpickle.dumps(node))]
)
async def test_nodes_on_a_pool_travel_and_give_their_state(travel: Any) -> None:
    """A worker that is lost takes them with it: then they are made anew, and go on from a state."""
    honest, liar = Stepping(3.0), Growing()
    for node in (honest, liar):
        node.apply_server_gradient(torch.ones(2))
    first = honest.honest_gradient_for_next_batch(), liar.byzantine_gradient_for_next_batch(VECTORS)
    if travel is None:
        others: tuple[Any, Any] = Stepping(0.0), Growing()
        for old, new in zip((honest, liar), others, strict=True):
            Resident(new).resident_restore(Resident(old).resident_save())
    else:
        others = travel((honest, liar))
    steps = []
    for step, liar_too in ((honest, liar), others):
        for node in (step, liar_too):
            node.apply_server_gradient(torch.ones(2))
        steps.append(
            (step.honest_gradient_for_next_batch(), liar_too.byzantine_gradient_for_next_batch(VECTORS))
        )
    assert [vector.tolist() for vector in first] == [[3.0, 3.0], [1.0, -1.0]]
    for vectors in steps:
        assert [vector.tolist() for vector in vectors] == [[2.0, 2.0], [2.0, -2.0]]
    assert others[0].pool is not honest.pool
    for node in (honest, liar, *others):
        await node.shutdown_distributed()


async def test_an_application_travels_with_its_pipelines_and_starts_a_pool_of_its_own() -> None:
    app = HonestNodeApplication(name="n", actor_pool=POOL)
    app.register_operator(app.AGGREGATION_PIPELINE, CoordinateWiseMedian(), ["gradients"])
    async with app:
        await app.pool.open_channel("news")
        scheduler = MessageAwareNodeScheduler(graph(Told()), pool=app.pool)
        scheduler.deliver_message("kept", "here")
        other, its = pickle.loads(pickle.dumps((app, scheduler)))
        assert its.pool is other.pool
        assert its.statistics().cached == 0
        assert other.pool.worker_affinities() == ()
        async with other:
            assert (await other.aggregate(gradients=VECTORS)).tolist() == [2.0, -2.0]


def test_a_byzantine_node_needs_an_attack() -> None:
    with pytest.raises(ValueError, match="needs an attack"):
        DistributedByzantineNode(actor_pool=POOL)


async def test_an_application_shuts_its_pool_at_the_end_of_async_with() -> None:
    async with NodeApplication(name="n", actor_pool=POOL) as app:
        await app.pool.start()
        assert len(app.pool.worker_affinities()) == 2
    assert app.pool.worker_affinities() == ()
