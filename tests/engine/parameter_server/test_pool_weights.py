"""Weights of rounds that a pool or a cluster aggregated: those that the server itself would have reported."""

from __future__ import annotations

import pickle
import random
from collections.abc import Mapping
from typing import Any

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

from byzflow.aggregators.average import Average
from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.aggregators.norm_wise import CenteredClipping, FoolsGold
from byzflow.aggregators.pipeline import Pipeline
from byzflow.engine.graph.client_pool import pool_on
from byzflow.engine.graph.submit import Cluster
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.parameter_server.reduction import SMALL, Reduction
from byzflow.operators.linear import Weights
from byzflow.pre_aggregators import Bucketing, Clipping, NearestNeighborMixing
from tests.cases import CASES
from tests.engine.graph.pools import FakePool

N = 11
LENGTH = SMALL // (N - 1) + 1  # no round is small, if one node is left out

SHARDED = {"byzflow.graph.in-place-below": 0, "byzflow.graph.shard-size": 1}
WHOLE = {"byzflow.graph.in-place-below": 0, "byzflow.graph.shard-size": 10**9}
HERE = {"byzflow.graph.in-place-below": 10**9}

AGGREGATORS = {case.name: case for case in CASES if case.rule.startswith("aggregators.")}
PRE_AGGREGATORS = {case.name: case for case in CASES if case.rule.startswith("pre_aggregators.")}


class DoubledByAggregate(MultiKrum):
    """A rule of a user's own, which no phase knows of."""

    def aggregate(self, gradients: Any) -> Any:
        return 2.0 * super().aggregate(gradients)


class DoubledByCompute(MultiKrum):
    """The same for graphs alone."""

    def compute(self, inputs: Any, *, context: Any) -> Any:
        return 2.0 * super().compute(inputs, context=context)


def drawing() -> Any:
    return Bucketing(2, rng=random.Random(5))


CHAINS: Mapping[str, Any] = {
    "a pipeline": lambda: (None, Pipeline([Clipping(1.0), NearestNeighborMixing(f=2)], MultiKrum(f=2, q=3))),
    "a pipeline that draws": lambda: (None, Pipeline([drawing()], Average())),
    "a pipeline with a state": lambda: (None, Pipeline([NearestNeighborMixing(f=2)], FoolsGold())),
    "buckets of the seed": lambda: (Bucketing(2), MultiKrum(f=1, q=2)),
    "buckets of their own": lambda: (drawing(), MultiKrum(f=1, q=2)),
    "two passes": lambda: (NearestNeighborMixing(f=2), CenteredClipping(c_tau=1.0, init="median")),
    "two passes, drawn": lambda: (drawing(), CenteredClipping(c_tau=1.0, init="median")),
    "columns of mixtures": lambda: (NearestNeighborMixing(f=2), CoordinateWiseMedian()),
    "overridden": lambda: (None, DoubledByAggregate(f=2, q=3)),
    "histories of mixtures": lambda: (NearestNeighborMixing(f=2), FoolsGold()),
    "histories of buckets": lambda: (Bucketing(2), FoolsGold()),
}

WITHOUT = {"columns of mixtures", "overridden"}


@pytest.fixture(scope="module")
def client() -> Any:
    options = {"processes": False, "protocol": "tcp", "dashboard_address": ":0", "memory_limit": 0}
    with LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster, Client(cluster) as client:
        yield client


def vectors(n: int) -> list[Any]:
    stream = np.random.default_rng(n)
    return list(stream.normal(size=(n, LENGTH * N // n + 1)).astype(np.float32))


async def same_everywhere(made: Any, n: int, client: Any) -> Any:
    """Assert that weights and aggregate of two rounds are those of the server; return the last weights."""

    async def rounds(settings: Mapping[str, Any], **where: Any) -> list[tuple[Any, Any]]:
        reduction, found = Reduction(seed=3, **where), []
        pre, rule = made()
        with dask.config.set(settings):
            for number in range(2):
                value, weights, reduction.state = await reduction.run(vectors(n), pre, rule, number)
                found.append((value, weights))
        return found

    expected = await rounds({})
    cluster = pool_on(client)
    places = {
        "subtasks": ({}, {"pool": FakePool()}),
        "one worker": ({}, {"pool": FakePool(1)}),
        "shards": (SHARDED, {"cluster": cluster}),
        "one task": (WHOLE, {"cluster": cluster}),
        "in place": (HERE, {"pool": cluster}),
    }
    try:
        for place, (settings, where) in places.items():
            found = await rounds(settings, **where)
            for (value, weights), (eager, same) in zip(found, expected, strict=True):
                np.testing.assert_array_equal(value, eager, err_msg=place)
                assert weights == same, place
    finally:
        await cluster.shutdown()
    return expected[-1][1]


@pytest.mark.parametrize("name", AGGREGATORS)
async def test_every_rule_has_the_same_weights_wherever_it_ran(name: str, client: Any) -> None:
    case = AGGREGATORS[name]
    await same_everywhere(lambda: (None, case.make()), case.laws.n, client)


@pytest.mark.parametrize("name", PRE_AGGREGATORS)
async def test_so_has_a_rule_behind_every_pre_aggregator(name: str, client: Any) -> None:
    case = PRE_AGGREGATORS[name]
    await same_everywhere(lambda: (case.make(), Average()), case.laws.n, client)


@pytest.mark.parametrize("name", CHAINS)
async def test_so_has_every_kind_of_chain(name: str, client: Any) -> None:
    weights = await same_everywhere(CHAINS[name], N, client)
    assert (weights is None) == (name in WITHOUT)


async def test_a_rule_that_a_graph_runs_otherwise_has_no_weights() -> None:
    for pre in (None, NearestNeighborMixing(f=2)):
        _, weights, _ = await Reduction(pool=FakePool(1)).run(vectors(N), pre, DoubledByCompute(f=2, q=3), 0)
        assert weights is None


class Node:
    def __init__(self, vector: Any) -> None:
        self.vector = vector

    def honest_gradient_for_next_batch(self) -> Any:
        return self.vector

    def byzantine_gradient_for_next_batch(self, honest_gradients: Any) -> Any:
        return self.vector

    def apply_server_gradient(self, aggregate: Any) -> None:
        """There is no model."""


class Raises(Node):
    def honest_gradient_for_next_batch(self) -> Any:
        raise ArithmeticError("no gradient today")


async def reports(settings: Mapping[str, Any], pre: Any, rule: Any, **where: Any) -> list[Any]:
    """Return what two rounds with an excluded and a Byzantine node report, and their aggregates."""
    first, second, *others, last = vectors(N)
    nodes = [Node(first), Raises(second), *map(Node, others)]
    found = []
    with dask.config.set(settings):
        async with ParameterServer(nodes, [Node(last)], rule, pre, seed=7, **where) as server:
            for _ in range(2):
                aggregate = await server.round()
                report = server.history[-1]
                found.append((aggregate.tobytes(), report.weights, report.byzantine_share, report.excluded))
    return found


@pytest.mark.parametrize("settings", [SHARDED, WHOLE, HERE], ids=["shards", "one task", "in place"])
@pytest.mark.parametrize("pre", [None, Bucketing(2)], ids=["alone", "behind buckets"])
async def test_an_excluded_node_has_no_weight_on_a_cluster_either(
    settings: Mapping[str, Any], pre: Any, client: Any
) -> None:
    rule = MultiKrum(f=1, q=3)
    found = await reports(settings, pre, rule, client=client)
    assert found == await reports({}, pre, rule) == await reports(settings, pre, rule, client=client)
    for _, weights, share, excluded in found:
        assert weights[1] == 0.0
        assert share is not None
        assert [exclusion.node for exclusion in excluded] == ["honest-1"]


@pytest.mark.parametrize("rule", [Average(), MultiKrum(f=2, q=3)], ids=["known before", "measured"])
async def test_a_row_that_is_not_finite_has_no_weight_on_a_cluster_either(rule: Any, client: Any) -> None:
    rows = vectors(N)
    rows[4][-1] = np.inf
    here = await Reduction().run(rows, None, rule, 0)
    assert here[1] is not None
    assert here[1][4] == 0.0
    cluster = pool_on(client)
    for settings in (SHARDED, WHOLE, HERE):
        for where in ({"cluster": cluster}, {"pool": FakePool()}):
            with dask.config.set(settings):
                value, weights, _ = await Reduction(**where).run(rows, None, rule, 0)
            np.testing.assert_array_equal(value, here[0])
            assert weights == here[1]
    await cluster.shutdown()


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[Any]]]:
    """The number of tasks of each step that the cluster runs, and what is fetched."""
    seen: list[tuple[int, list[Any]]] = []
    submit = Cluster._submit

    async def counted(self: Cluster, *args: Any) -> Any:
        compiled, answers = await submit(self, *args)
        seen.append((sum(map(len, compiled.graph.layers.values())), [answers[key] for key in compiled.keys]))
        return compiled, answers

    monkeypatch.setattr(Cluster, "_submit", counted)
    return seen


@pytest.mark.parametrize("settings", [SHARDED, WHOLE], ids=["shards", "one task"])
async def test_weights_cost_no_task_and_no_vector(
    settings: Mapping[str, Any], client: Any, fetched: list[tuple[int, list[Any]]]
) -> None:
    cluster, rule = pool_on(client), MultiKrum(f=2, q=3)
    reduction = Reduction(cluster=cluster)
    with dask.config.set(settings):
        await reduction.run(vectors(N), None, rule, 0)
        await reduction.scheduler(rule, cluster).run({"gradients": vectors(N)})
    await cluster.shutdown()
    (with_weights, answers), (without, same) = fetched
    assert with_weights == without
    assert len(answers) == len(same) + (settings is SHARDED)
    plan = answers[-1] if settings is SHARDED else answers[0][1]
    assert isinstance(plan, Weights)
    assert len(pickle.dumps(plan)) < 10_000


@pytest.mark.parametrize("settings", [SHARDED, WHOLE], ids=["shards", "one task"])
async def test_plans_that_tell_no_weights_are_not_fetched(
    settings: Mapping[str, Any], client: Any, fetched: list[tuple[int, list[Any]]]
) -> None:
    cluster = pool_on(client)
    with dask.config.set(settings):
        mixed = NearestNeighborMixing(f=2)
        _, weights, _ = await Reduction(cluster=cluster).run(vectors(N), mixed, CoordinateWiseMedian(), 0)
    await cluster.shutdown()
    assert weights is None
    ((_, answers),) = fetched
    assert not any(isinstance(part, tuple | Weights) for part in answers)
