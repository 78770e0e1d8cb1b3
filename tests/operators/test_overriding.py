"""A subclass that overrides what callers call runs by that method, also where rules are taken apart."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.aggregators.pipeline import Pipeline
from byzflow.attacks import DissensusAttack, EmpireAttack, OptimalEmpire
from byzflow.attacks.adaptive import linear_rule
from byzflow.engine.graph.executor import run_operator
from byzflow.engine.graph.graph import ComputationGraph, GraphNode, graph_input
from byzflow.engine.graph.scheduler import NodeScheduler
from byzflow.engine.parameter_server.ps import ParameterServer
from byzflow.pre_aggregators import Clipping, NearestNeighborMixing

X = [np.full(3, value) for value in (1.0, 2.0, 3.0, 50.0)]
ONES = np.ones(3)


class Plus(CoordinateWiseMedian):
    """The median plus one."""

    def aggregate(self, gradients: Any) -> Any:
        return super().aggregate(gradients) + 1.0


class PlusKrum(MultiKrum):
    """The mean of MultiKrum plus one."""

    def aggregate(self, gradients: Any) -> Any:
        return super().aggregate(gradients) + 1.0


class Halves(Clipping):
    """Half of the clipped vectors."""

    def pre_aggregate(self, xs: Any) -> Any:
        return [0.5 * x for x in super().pre_aggregate(xs)]


class Doubled(EmpireAttack):
    """Twice the attack."""

    def apply(self, **given: Any) -> Any:
        return 2.0 * super().apply(**given)


class Constant:
    """A node that answers with one vector."""

    def __init__(self, value: float) -> None:
        self.gradient = np.full(3, value)

    def honest_gradient_for_next_batch(self) -> Any:
        return self.gradient

    def apply_server_gradient(self, gradient: Any) -> None:
        pass


class TwoWorkers:
    """A pool that runs here."""

    size = 2

    async def run_subtask(self, subtask: Any) -> Any:
        return subtask.fn(*subtask.args, **subtask.kwargs)


@pytest.mark.parametrize("rule", [Plus(), PlusKrum(f=1, q=2)])
@pytest.mark.parametrize("pool", [None, TwoWorkers()])
def test_a_server_calls_the_overridden_aggregate(rule: Any, pool: Any) -> None:
    server = ParameterServer([Constant(x[0]) for x in X], None, rule, actor_pool=pool)
    assert np.array_equal(server.round_sync(), rule.aggregate(X))
    assert server.history[0].weights is None


@pytest.mark.parametrize("pool", [None, TwoWorkers()])
@pytest.mark.parametrize(
    ("operator", "key", "wanted"),
    [
        (Plus(), "gradients", Plus().aggregate(X)),
        (Halves(1.0), "vectors", Halves(1.0).pre_aggregate(X)),
        (Doubled(), "honest_grads", Doubled().apply(honest_grads=X)),
    ],
)
def test_a_graph_calls_the_overridden_method(operator: Any, key: str, wanted: Any, pool: Any) -> None:
    graph = ComputationGraph([GraphNode("rule", operator, {key: graph_input(key)})])
    assert np.array_equal(asyncio.run(NodeScheduler(graph, pool=pool).run({key: X}))["rule"], wanted)
    assert np.array_equal(asyncio.run(run_operator(operator, {key: X}, input_keys=[key])), wanted)


@pytest.mark.parametrize("last", [PlusKrum(f=1, q=2), Plus(), MultiKrum(f=1, q=2)])
def test_chains_are_not_fused_over_an_overridden_part(last: Any) -> None:
    halves = Halves(1.0)
    wanted = last.aggregate(halves.pre_aggregate(X))
    assert np.array_equal(Pipeline((halves,), last).aggregate(X), wanted)
    server = ParameterServer([Constant(x[0]) for x in X], None, last, halves)
    assert np.array_equal(server.round_sync(), wanted)
    mixed = NearestNeighborMixing(1)
    assert np.allclose(Pipeline((mixed,), last).aggregate(X), last.aggregate(mixed.pre_aggregate(X)))


def test_adaptive_attacks_try_the_overridden_rule() -> None:
    assert linear_rule([PlusKrum(f=1, q=2)]) is None
    attack = OptimalEmpire(f=1, aggregator=PlusKrum(f=1, q=2))
    assert np.isfinite(attack.apply(honest_grads=X)).all()


def test_a_rule_that_keeps_its_phases_may_say_so() -> None:
    assert DissensusAttack.by_phases
    assert DissensusAttack.supports_subtasks
