"""Reports say the weight of every node also for rules with a state, and behind pre-aggregators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian, SignMajority
from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.aggregators.norm_wise import (
    CenteredClipping,
    ClippedClustering,
    FoolsGold,
    StatefulCenteredClipping,
)
from byzflow.aggregators.pipeline import Pipeline
from byzflow.engine.parameter_server import ParameterServer
from byzflow.pre_aggregators import Bucketing, Clipping, NearestNeighborMixing

LENGTH, ROUNDS = 40, 3


class Node:
    def __init__(self, index: int) -> None:
        self.stream, self.sent = np.random.default_rng(index), np.zeros(0)

    def honest_gradient_for_next_batch(self) -> Any:
        self.sent = self.stream.normal(size=LENGTH)
        return self.sent

    def apply_server_gradient(self, vec: Any) -> None:
        """There is no model."""


class Liar(Node):
    def byzantine_gradient_for_next_batch(self, honest_gradients: Any) -> Any:
        self.sent = 3.0 * self.stream.normal(size=LENGTH)
        return self.sent


SUMS = {
    "histories": (None, FoolsGold()),
    "norms of the past": (None, ClippedClustering()),
    "a pipeline": (None, Pipeline([Bucketing(2), NearestNeighborMixing(f=1)], MultiKrum(f=1, q=2))),
    "a pipeline with a state": (None, Pipeline([NearestNeighborMixing(f=1)], FoolsGold())),
    "a state behind buckets": (Bucketing(2), ClippedClustering()),
    "histories of buckets": (Bucketing(2), FoolsGold()),
    "a pipeline with histories behind buckets": (
        Bucketing(2),
        Pipeline([NearestNeighborMixing(f=1)], FoolsGold()),
    ),
    "histories of mixtures": (NearestNeighborMixing(f=1), FoolsGold()),
}


def rounds_of(rule: Any, pre: Any = None) -> Any:
    """Yield the vectors of each round, with node, the aggregate and the report."""
    honest, liars = [Node(i) for i in range(5)], [Liar(9)]
    server = ParameterServer(honest, liars, rule, pre, seed=1)
    for _ in range(ROUNDS):
        aggregate = server.round_sync()
        yield np.stack([node.sent for node in (*honest, *liars)]), aggregate, server.history[-1]
    server.shutdown_sync()


@pytest.mark.parametrize("case", SUMS)
def test_the_weights_of_all_nodes_give_the_aggregate(case: str) -> None:
    pre, rule = SUMS[case]
    for sent, aggregate, report in rounds_of(rule, pre):
        np.testing.assert_allclose(np.asarray(report.weights) @ sent, aggregate, atol=1e-12)
        assert 0.0 <= report.byzantine_share < 1.0


@pytest.mark.parametrize("pre", [None, NearestNeighborMixing(f=1)])
def test_what_the_weights_lack_is_that_of_the_last_centre(pre: Any) -> None:
    centre = np.zeros(LENGTH)
    for sent, aggregate, report in rounds_of(StatefulCenteredClipping(c_tau=1.0), pre):
        weights = np.asarray(report.weights)
        np.testing.assert_allclose(weights @ sent + (1.0 - weights.sum()) * centre, aggregate, atol=1e-12)
        centre = aggregate


def test_a_rule_that_cannot_be_fused_with_what_is_before_it_has_weights_too() -> None:
    for sent, aggregate, report in rounds_of(CenteredClipping(c_tau=1e9, init="median"), Bucketing(2)):
        np.testing.assert_allclose(np.asarray(report.weights) @ sent, aggregate, atol=1e-6)


@pytest.mark.parametrize("rule", [SignMajority(), Pipeline([Clipping(1.0)], SignMajority())])
def test_a_rule_for_each_coordinate_has_no_weights_of_a_single_row_either(rule: Any) -> None:
    for _, aggregate, report in rounds_of(rule, Bucketing(6)):
        assert set(aggregate) <= {-1.0, 0.0, 1.0}
        assert report.weights is None


class Doubled(FoolsGold):
    """A rule of a user's own, of which nobody knows that it is linear."""

    def step(self, gradients: Any, state: Any) -> Any:
        aggregate, state = super().step(gradients, state)
        return 2.0 * aggregate, state


@pytest.mark.parametrize(
    "rule",
    [Doubled(), CoordinateWiseMedian(), Pipeline([NearestNeighborMixing(f=1)], CoordinateWiseMedian())],
)
def test_a_rule_of_which_no_weights_are_known_has_none(rule: Any) -> None:
    for _, _, report in rounds_of(rule):
        assert report.weights is None
        assert report.byzantine_share is None


def test_a_rule_that_overrides_the_step_is_run_by_its_own() -> None:
    doubled, plain = rounds_of(Doubled()), rounds_of(FoolsGold())
    for (_, twice, _), (_, once, _) in zip(doubled, plain, strict=True):
        np.testing.assert_array_equal(twice, 2.0 * once)
