"""Rules in rounds that leave nodes out: whatever counts nodes still means the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from byzflow.aggregators.average import Average
from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
from byzflow.aggregators.geometric_wise import MoNNA, MultiKrum, SmoothedGeometricMedian
from byzflow.aggregators.norm_wise import FLTrust, FoolsGold, StatefulCenteredClipping
from byzflow.aggregators.pipeline import Pipeline
from byzflow.engine.fitting import candidates, lowered, tolerance
from byzflow.engine.parameter_server import ParameterServer
from byzflow.exceptions import ToleranceError
from byzflow.pre_aggregators import Bucketing, Clipping, NearestNeighborMixing

N, OUT, D = 6, 1, 4


def sent(node: int, round: int) -> np.ndarray:
    return np.random.default_rng((node, round)).normal(size=D)


class Node:
    """Fails in the rounds it is told to."""

    def __init__(self, number: int, fails: Any = ()) -> None:
        self.number, self.fails, self.round = number, fails, 0

    def honest_gradient_for_next_batch(self) -> np.ndarray:
        round, self.round = self.round, self.round + 1
        if round in self.fails:
            raise ValueError("out of order")
        return sent(self.number, round)

    def apply_server_gradient(self, g: np.ndarray) -> None:
        pass


async def rounds(count: int, rule: Any, pre: Any = None, out: int = OUT) -> list[np.ndarray]:
    """Run rounds of which the second leaves node `out` out."""
    nodes = [Node(i, {1} if i == out else ()) for i in range(N)]
    async with ParameterServer(nodes, [], rule, pre, quorum=3) as server:
        return [await server.round() for _ in range(count)]


def rest(round: int, out: int = OUT) -> list[np.ndarray]:
    return [sent(i, round) for i in range(N) if i != out]


WEIGHTS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
LEFT = (1.0, 3.0, 4.0, 5.0, 6.0)


@pytest.mark.parametrize(
    ("rule", "meant"),
    [
        (FLTrust(reference_index=3), FLTrust(reference_index=2)),
        (FLTrust(reference_index=0), FLTrust(reference_index=0)),
        (MoNNA(f=1, reference_index=3), MoNNA(f=1, reference_index=2)),
        (MoNNA(f=1, reference_index=OUT), MoNNA(f=1, reference_index=0)),
        (Average(node_weights=WEIGHTS), Average(node_weights=LEFT)),
        (SmoothedGeometricMedian(node_weights=WEIGHTS), SmoothedGeometricMedian(node_weights=LEFT)),
        (
            Pipeline((Clipping(1.0),), FLTrust(reference_index=3)),
            Pipeline((Clipping(1.0),), FLTrust(reference_index=2)),
        ),
    ],
)
async def test_options_that_count_nodes_mean_the_same_nodes(rule: Any, meant: Any) -> None:
    first, second, third = await rounds(3, rule)
    np.testing.assert_array_equal(first, rule.aggregate([sent(i, 0) for i in range(N)]))
    np.testing.assert_array_equal(second, meant.aggregate(rest(1)))
    np.testing.assert_array_equal(third, rule.aggregate([sent(i, 2) for i in range(N)]))


async def test_a_permutation_of_all_nodes_orders_those_that_are_left() -> None:
    pre, rule = Bucketing(2, perm=(5, 1, 0, 2, 4, 3)), MultiKrum(f=0, q=1)
    _, got = await rounds(2, rule, pre)
    buckets = Bucketing(2, perm=(4, 0, 1, 3, 2)).pre_aggregate(rest(1))
    np.testing.assert_allclose(got, rule.aggregate(buckets), rtol=1e-12)


def test_what_comes_after_buckets_counts_buckets() -> None:
    (_, rule), _ = candidates(Bucketing(2), MoNNA(f=1, reference_index=2), {0})
    assert rule.reference_index == 2


async def test_nobody_takes_the_place_of_a_trusted_node() -> None:
    nodes = [Node(i, {1} if i == OUT else ()) for i in range(N)]
    async with ParameterServer(nodes, [], FLTrust(reference_index=OUT), quorum=3) as server:
        await server.round()
        with pytest.raises(ToleranceError, match=r"trusted node, number 1; .*honest-1 \(gradients, raised"):
            await server.round()
        np.testing.assert_array_equal(
            await server.round(), server.agg.aggregate([sent(i, 2) for i in range(N)])
        )


@pytest.mark.parametrize("out", range(N))
async def test_every_history_stays_with_its_node(out: int) -> None:
    got = await rounds(4, FoolsGold(), out=out)
    state, rule, want = None, FoolsGold(), []
    for round in range(4):
        rows = [sent(i, round) for i in range(N)]
        if round == 1:
            rows[out] = np.full(D, np.nan)  # as eager calls take a row that is missing
        aggregate, state = rule.step(rows, state)
        want.append(aggregate)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("in_pipeline", [False, True])
async def test_a_rule_that_remembers_nodes_starts_anew_behind_buckets(in_pipeline: bool) -> None:
    buckets, rule = Bucketing(5, perm=(5, 1, 0, 2, 4, 3)), FoolsGold()
    pair = (Pipeline((buckets,), rule), None) if in_pipeline else (rule, buckets)
    first, second, third = await rounds(3, *pair)
    left = Bucketing(5, perm=(4, 0, 1, 3, 2)).pre_aggregate(rest(1))
    for got, rows in (
        (first, buckets.pre_aggregate([sent(i, 0) for i in range(N)])),
        (second, left),
        (third, buckets.pre_aggregate([sent(i, 2) for i in range(N)])),
    ):
        np.testing.assert_allclose(got, rule.aggregate(rows), rtol=1e-12)


async def test_a_rule_that_remembers_no_nodes_goes_on_behind_buckets() -> None:
    buckets, rule = Bucketing(5, perm=(5, 1, 0, 2, 4, 3)), StatefulCenteredClipping(c_tau=0.5)
    got = await rounds(2, rule, buckets, out=N)
    _, state = rule.step(buckets.pre_aggregate([sent(i, 0) for i in range(N)]), None)
    want, _ = rule.step(buckets.pre_aggregate([sent(i, 1) for i in range(N)]), state)
    np.testing.assert_allclose(got[1], want, rtol=1e-12)


async def test_a_pipeline_too_demanding_for_what_is_left_runs_with_lower_f() -> None:
    rule = Pipeline((NearestNeighborMixing(f=2), Clipping(2.0)), CoordinateWiseTrimmedMean(f=2))
    nodes = [Node(i, {0} if i == OUT else ()) for i in range(5)]
    async with ParameterServer(nodes, [], rule) as server:
        got = await server.round()
    want = lowered(rule, 1).aggregate([sent(i, 0) for i in range(5) if i != OUT])
    np.testing.assert_array_equal(got, want)
    assert lowered(rule, 1).aggregator.f == 1


def test_a_pipeline_lets_as_many_go_as_its_parts() -> None:
    rule = Pipeline((NearestNeighborMixing(f=2),), CoordinateWiseTrimmedMean(f=1))
    assert tolerance([rule], 9) == 1


def test_tolerance_given_as_a_number_of_numpy_counts_and_is_lowered() -> None:
    for rule in (
        CoordinateWiseTrimmedMean(np.uint8(1)),
        Pipeline([], CoordinateWiseTrimmedMean(np.int64(1))),
    ):
        assert tolerance([rule], 9) == 1
        assert tolerance([lowered(rule, 3)], 9) == 0
