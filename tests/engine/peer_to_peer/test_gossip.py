"""Gossip rules against slow definitions, under hostile neighbours, and on every path of the engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from byzflow.aggregators.geometric_wise.monna import MoNNA
from byzflow.aggregators.pipeline import Pipeline
from byzflow.engine.graph.executor import run_operator
from byzflow.engine.graph.pool import ActorPoolConfig
from byzflow.engine.peer_to_peer.gossip import (
    UBAR,
    BridgeMedian,
    BridgeTrimmedMean,
    ClippedGossip,
    IterativeOutlierScissor,
    NearestNeighborAveraging,
    PlainGossip,
    RemoveThenClip,
)
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.weights import mixing_matrix
from byzflow.exceptions import ToleranceError
from byzflow.pre_aggregators import Clipping
from byzflow.testing import CHECKS, HOSTILE, Laws, hostile_rows, rows

N = 11
LOSSES = tuple(float(v) for v in np.random.default_rng(5).permutation(N))
UNEVEN = tuple(w / 66 for w in range(11, 0, -1))


def finite(X):
    return np.isfinite(X).all(axis=1)


def own_distance(X):
    with np.errstate(invalid="ignore", over="ignore"):
        D = np.linalg.norm((X - X[0]) / 1e38, axis=1) * 1e38 if np.abs(X).max() > 1e30 else None
        D = np.linalg.norm(X - X[0], axis=1) if D is None else D
    return np.where(finite(X), D, np.inf)


def plain(X, w):
    x = X[0].copy()
    for wj, xj in zip(w[1:], X[1:], strict=True):
        if np.isfinite(xj).all():
            x = x + wj * (xj - X[0])
    return x


def stay(X, w, delta):
    """The neighbours that stay when the farthest go until delta of the weight is gone."""
    D, order, gone = own_distance(X), list(range(1, len(X))), 0.0
    while order:
        far = max(order, key=lambda j: (D[j], j))
        if gone >= delta - 1e-12 and np.isfinite(D[far]):
            break
        order.remove(far)
        gone += w[far]
    return order


def clipped(X, w, delta, remove=False):
    D, kept = own_distance(X), stay(X, w, delta)
    tau = np.sqrt(sum(w[j] * D[j] ** 2 for j in kept) / delta)
    x = X[0].copy()
    for j in kept if remove else range(1, len(X)):
        if np.isfinite(D[j]):
            x = x + w[j] * min(1.0, tau / D[j]) * (X[j] - X[0])
    return x


def nearest(X, f):
    D = own_distance(X)
    order = sorted(range(len(X)), key=lambda j: (j != 0, D[j], j))
    return X[order[: len(X) - f]].mean(axis=0)


def scissor(X, w, f):
    w = np.asarray(w)
    left = [j for j in range(len(X)) if np.isfinite(X[j]).all()]
    while len(left) > len(X) - f:
        mean = (w[left, None] * X[left]).sum(axis=0) / w[left].sum()
        far = max(left[1:], key=lambda j: (np.linalg.norm((X[j] - mean) / 2.0**100), j))
        left.remove(far)
    return (w[left, None] * X[left]).sum(axis=0) / w[left].sum()


def bridge(X, f):
    kept = np.sort(X[1:], axis=0)[f : len(X) - 1 - f]
    return (X[0] + kept.sum(axis=0)) / (len(kept) + 1)


def ubar(X, rho, alpha, losses):
    D = own_distance(X)
    near = sorted(range(1, len(X)), key=lambda j: (D[j], j))[: max(1, int(rho * (len(X) - 1) + 1e-9))]
    near = [j for j in near if np.isfinite(D[j])]
    good = [j for j in near if losses[j] <= losses[0]] or [min(near, key=lambda j: losses[j])]
    return alpha * X[0] + (1 - alpha) * X[good].mean(axis=0)


EQUAL = (1 / N,) * N
RULES = {
    "plain": (PlainGossip(), lambda X: plain(X, EQUAL)),
    "plain-uneven": (PlainGossip(mixing=UNEVEN), lambda X: plain(X, UNEVEN)),
    "clipped": (ClippedGossip(delta=0.25), lambda X: clipped(X, EQUAL, 0.25)),
    "clipped-uneven": (ClippedGossip(delta=0.3, mixing=UNEVEN), lambda X: clipped(X, UNEVEN, 0.3)),
    "rtc": (RemoveThenClip(0.25), lambda X: clipped(X, EQUAL, 0.25, remove=True)),
    "rtc-uneven": (RemoveThenClip(0.4, mixing=UNEVEN), lambda X: clipped(X, UNEVEN, 0.4, remove=True)),
    "nna": (NearestNeighborAveraging(3), lambda X: nearest(X, 3)),
    "ios": (IterativeOutlierScissor(3), lambda X: scissor(X, EQUAL, 3)),
    "ios-uneven": (IterativeOutlierScissor(2, mixing=UNEVEN), lambda X: scissor(X, UNEVEN, 2)),
    "bridge-t": (BridgeTrimmedMean(3), lambda X: bridge(X, 3)),
    "bridge-m": (BridgeMedian(), lambda X: np.sort(X, axis=0)[(len(X) - 1) // 2]),
    "ubar": (UBAR(rho=0.6, losses=LOSSES), lambda X: ubar(X, 0.6, 0.5, LOSSES)),
}
ROBUST = [name for name in RULES if not name.startswith("plain")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", RULES)
def test_rule_obeys(name, check):
    rule, reference = RULES[name]
    if name.endswith("uneven") and check.__name__ not in ("check_accuracy", "check_hostile_rows"):
        return  # the same code as with equal weights
    laws = Laws(n=N, reference=reference, permutes=name == "bridge-m", hostile=name in ROBUST)
    check(rule, laws)


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("kind", HOSTILE)
def test_two_liars_among_the_neighbors_move_a_robust_rule_no_farther_than_the_honest_spread(name, kind):
    rule, _ = RULES[name]
    if name == "ubar":
        rule = UBAR(rho=0.6, loss=lambda x: float(abs(x).sum()))
    X = hostile_rows(N, 5, kind, where=(3, 7))
    out = rule.aggregate(list(X))
    spread = own_distance(X[[j for j in range(N) if j not in (3, 7)]]).max()
    assert np.linalg.norm(out - X[0]) <= spread + 1e-9


@pytest.mark.parametrize("name", [name for name in ROBUST if not name.startswith("bridge")])
def test_a_diverged_own_vector_is_said(name):
    X = rows(N, 3)
    X[0, 1] = np.nan
    with pytest.raises(ToleranceError, match="own vector"):
        RULES[name][0].aggregate(list(X))


def test_plain_gossip_is_one_row_of_the_mixing_matrix():
    topology = Topology.dumbbell(8)
    X = rows(8, 6)
    for node in range(8):
        mine = [node, *topology.in_neighbors(node)]
        out = PlainGossip().at(topology, node).aggregate([X[j] for j in mine])
        np.testing.assert_allclose(out, mixing_matrix(topology)[node] @ X, rtol=1e-12)


def test_nearest_neighbor_averaging_equals_monna_with_reference_zero():
    X = list(rows(N, 40))
    np.testing.assert_array_equal(
        NearestNeighborAveraging(4).aggregate(X), MoNNA(4, reference_index=0).aggregate(X)
    )


def test_clipping_with_delta_zero_or_an_infinite_radius_is_plain_gossip():
    X = list(rows(N, 9))
    expected = PlainGossip().aggregate(X)
    np.testing.assert_allclose(ClippedGossip(delta=0).aggregate(X), expected)
    np.testing.assert_allclose(ClippedGossip(tau=float("inf")).aggregate(X), expected)


def test_clipping_radius_never_exceeds_the_one_that_knows_the_honest():
    rng = np.random.default_rng(0)
    for _ in range(50):
        X = rng.normal(size=(8, 4)) * rng.lognormal(size=(8, 1))
        liars = rng.choice(np.arange(1, 8), size=2, replace=False)
        honest = [j for j in range(1, 8) if j not in liars]
        D, w = own_distance(X), np.full(8, 1 / 8)
        assert sum(D[j] ** 2 for j in stay(X, w, 0.25)) <= sum(D[j] ** 2 for j in honest) + 1e-12


def test_ubar_asks_only_for_the_own_loss_and_those_of_near_neighbors():
    asked = []

    def loss(x):
        asked.append(float(x[0]))
        return float(x[0])

    out = UBAR(rho=0.5, alpha=0.25, loss=loss).aggregate(
        [torch.full((2,), float(v)) for v in (3, 2, 9, 4, 50)]
    )
    assert asked == [3, 2, 4]
    assert out.tolist() == [0.25 * 3 + 0.75 * 2] * 2


async def test_ubar_with_a_loss_runs_whole_in_a_pipeline_and_on_a_pool():
    X = [np.full(2, float(v)) for v in (3, 2, 9, 4, 50)]
    rule = UBAR(rho=0.5, loss=lambda x: float(x[0]))
    expected = rule.aggregate(X)
    np.testing.assert_array_equal(Pipeline([Clipping(1e9)], rule).aggregate(X), expected)
    pool = ActorPoolConfig("thread", 2)
    np.testing.assert_array_equal(await run_operator(rule, {"gradients": X}, pool_config=pool), expected)


def test_ubar_takes_the_best_where_no_neighbor_does_better_and_a_nan_loss_never_wins():
    X = [np.full(1, v) for v in (0.0, 1.0, 2.0)]
    assert UBAR(rho=1.0, losses=(0.0, 5.0, 3.0)).aggregate(X) == [1.0]
    assert UBAR(rho=1.0, losses=(0.0, float("nan"), 3.0)).aggregate(X) == [1.0]


def test_ubar_without_a_finite_neighbor_keeps_the_own_vector():
    X = [np.ones(2), np.full(2, np.nan)]
    np.testing.assert_array_equal(UBAR(rho=1.0, loss=lambda x: 0.0).aggregate(X), X[0])


@pytest.mark.parametrize("rule", [NearestNeighborAveraging(1), IterativeOutlierScissor(1)])
def test_more_broken_neighbors_than_f_are_a_tolerance_error(rule):
    X = rows(5, 3)
    X[[2, 4], 0] = np.nan
    with pytest.raises(ToleranceError, match="finite rows"):
        rule.aggregate(list(X))


@pytest.mark.parametrize(
    ("rule", "n"),
    [
        (NearestNeighborAveraging(3), 3),
        (IterativeOutlierScissor(3), 3),
        (BridgeTrimmedMean(1), 3),
        (BridgeTrimmedMean(1), 1),
        (PlainGossip(mixing=(0.5, 0.5)), 3),
        (UBAR(rho=0.5, losses=(1.0, 2.0)), 3),
    ],
)
def test_a_rule_that_does_not_fit_the_neighborhood_says_so(rule, n):
    with pytest.raises(ToleranceError, match=r"got .*\. \w"):
        rule.aggregate(list(rows(n, 2)))


def test_a_lonely_node_keeps_its_own_vector():
    X = list(rows(1, 4))
    for rule in (
        PlainGossip(),
        ClippedGossip(delta=0.2),
        RemoveThenClip(0.2),
        NearestNeighborAveraging(0),
        IterativeOutlierScissor(0),
        BridgeTrimmedMean(0),
        BridgeMedian(),
        UBAR(rho=1.0, loss=lambda x: 0.0),
    ):
        np.testing.assert_array_equal(rule.aggregate(X), X[0])


@pytest.mark.parametrize(
    "build",
    [
        lambda: ClippedGossip(),
        lambda: ClippedGossip(delta=0.1, tau=1.0),
        lambda: ClippedGossip(tau=-1.0),
        lambda: RemoveThenClip(1.0),
        lambda: PlainGossip(mixing=(0.5, 0.4)),
        lambda: PlainGossip(mixing=(0.0, 1.0)),
        lambda: NearestNeighborAveraging(-1),
        lambda: UBAR(rho=0.0, losses=(1.0,)),
        lambda: UBAR(rho=0.5),
        lambda: UBAR(rho=0.5, alpha=2.0, losses=(1.0,)),
    ],
)
def test_bad_options_are_refused_at_construction(build):
    with pytest.raises(ValueError, match="got"):
        build()


def test_binding_to_a_topology_leaves_the_rule_untouched():
    rule = ClippedGossip(delta=0.2)
    bound = rule.at(Topology.star(4), 0)
    assert rule.mixing is None
    assert bound == replace(rule, mixing=(0.25, 0.25, 0.25, 0.25))


def test_robust_gossip_reaches_consensus_where_a_liar_drags_plain_gossip_away():
    topology, liar = Topology.complete(6), 5
    start = np.random.default_rng(1).normal(size=(5, 3))

    def run(rule, rounds=40):
        X = start.copy()
        for _ in range(rounds):
            sent = [*X, np.full(3, 50.0)]
            X = np.stack(
                [rule.aggregate([sent[i], *(sent[j] for j in topology.in_neighbors(i))]) for i in range(liar)]
            )
        return X

    for rule in (
        ClippedGossip(delta=1 / 6),
        RemoveThenClip(1 / 6),
        NearestNeighborAveraging(1),
        IterativeOutlierScissor(1),
        BridgeTrimmedMean(1),
    ):
        X = run(rule)
        assert np.ptp(X, axis=0).max() < 0.2 * np.ptp(start, axis=0).max()
        assert np.abs(X.mean(axis=0) - start.mean(axis=0)).max() < 2 * np.ptp(start, axis=0).max()
    assert np.abs(run(PlainGossip())).max() > 40
