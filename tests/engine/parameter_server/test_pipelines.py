"""Servers whose aggregator is a pipeline, or draws at random: what they report is what they did."""

from __future__ import annotations

import random

import numpy as np
import pytest

from byzflow.aggregators.average import Average
from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.aggregators.pipeline import Pipeline
from byzflow.engine.fitting import lowered, sees_nodes, tolerance
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.engine.parameter_server.ps import ParameterServer
from byzflow.pre_aggregators import Bucketing, Clipping, NearestNeighborMixing

ROWS = list(np.random.default_rng(0).normal(size=(7, 5)))


class Node:
    """Sends one vector for ever."""

    def __init__(self, vector):
        self.vector = vector

    def honest_gradient_for_next_batch(self):
        return self.vector

    def apply_server_gradient(self, aggregate):
        pass


async def reported(aggregator, pre=None, **options):
    """Return the aggregate of one round, and the weights that the report gives."""
    server = ParameterServer([Node(row) for row in ROWS], [], aggregator, pre, **options)
    value = await server.round()
    weights = server.history[-1].weights
    await server.shutdown()
    return value, weights


async def test_report_of_a_pipeline_has_the_weights_of_its_parts():
    value, weights = await reported(Pipeline([Clipping(1.0)], MultiKrum(f=1, q=3)))
    apart, same = await reported(MultiKrum(f=1, q=3), Clipping(1.0))
    np.testing.assert_array_equal(value, apart)
    assert weights is not None
    assert weights == same


@pytest.mark.parametrize("rng", [None, random.Random(3)], ids=["fresh", "rng"])
@pytest.mark.parametrize("pre", [(), (Clipping(9.0),), (Bucketing(1),)], ids=["first", "second", "twice"])
async def test_weights_are_those_of_the_order_that_a_pool_used(pre, rng):
    pool = ActorPool([ActorPoolConfig("thread", 2)])
    rule = Pipeline([*pre, Bucketing(3, rng=rng)], Average())
    try:
        value, weights = await reported(rule, actor_pool=pool)
    finally:
        await pool.shutdown()
    np.testing.assert_allclose(np.asarray(weights) @ np.stack(ROWS), value, atol=1e-12)


def test_drawing_for_a_pool_takes_as_much_from_the_generator_as_drawing_here():
    pooled, here = (Bucketing(2, rng=random.Random(7)) for _ in range(2))
    expected = here.pre_aggregate(ROWS)
    np.testing.assert_array_equal(pooled.drawn(len(ROWS)).pre_aggregate(ROWS), expected)
    assert pooled.rng.random() == here.rng.random()


def test_pipeline_in_a_pipeline_tolerates_what_its_parts_do():
    inner = Pipeline([NearestNeighborMixing(f=2)], MultiKrum(f=2, q=2))
    rule = Pipeline([Clipping(1.0)], inner)
    assert rule == Pipeline([Clipping(1.0), NearestNeighborMixing(f=2)], MultiKrum(f=2, q=2))
    assert tolerance([rule], 10) == 2
    assert lowered(rule, 1).aggregator.f == 1
    assert not sees_nodes(None, Pipeline([], Pipeline([Bucketing(2)], inner)))
