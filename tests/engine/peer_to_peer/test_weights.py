"""Mixing weights: rows sum to one, Metropolis keeps the average, and the gap is what contraction shows."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.weights import (
    is_doubly_stochastic,
    local_weights,
    mixing_matrix,
    spectral_gap,
)

TOPOLOGIES = {
    "ring": Topology.ring(7),
    "star": Topology.star(6),
    "dumbbell": Topology.dumbbell(8),
    "random": Topology.erdos_renyi(9, 0.4, seed=3),
    "directed": Topology.erdos_renyi(9, 0.4, seed=3, directed=True),
    "exponential": Topology.exponential(8),
    "lonely": Topology(3, [(0, 1), (1, 0)]),
}


@pytest.mark.parametrize("scheme", ["uniform", "metropolis"])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_rows_sum_to_one_with_a_positive_own_weight(name, scheme):
    W = mixing_matrix(TOPOLOGIES[name], scheme)
    np.testing.assert_allclose(W.sum(axis=1), 1, atol=1e-15)
    assert (W >= 0).all()
    assert (np.diag(W) > 0).all()


@pytest.mark.parametrize("name", ["ring", "star", "dumbbell", "random", "lonely"])
def test_metropolis_is_doubly_stochastic_on_symmetric_topologies(name):
    W = mixing_matrix(TOPOLOGIES[name])
    assert np.array_equal(W, W.T)
    assert is_doubly_stochastic(W)


def test_directed_weights_need_not_be_doubly_stochastic():
    assert not is_doubly_stochastic(mixing_matrix(TOPOLOGIES["directed"]))


def test_weights_stand_in_the_order_own_then_ascending_neighbors():
    topology = Topology(4, [(2, 0), (1, 0), (3, 2), (0, 2), (1, 2)])
    np.testing.assert_allclose(local_weights(topology, 0), [1 - 1 / 3 - 1 / 4, 1 / 3, 1 / 4])


def test_unknown_scheme_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'metropolis'"):
        local_weights(Topology.ring(3), 0, "metroplis")


def test_ring_gap_equals_its_closed_form():
    n = 10
    second = (1 + 2 * np.cos(2 * np.pi / n)) / 3
    assert spectral_gap(mixing_matrix(Topology.ring(n))) == pytest.approx(1 - second)


def test_gap_bounds_the_contraction_of_one_round():
    W = mixing_matrix(TOPOLOGIES["dumbbell"])
    x = np.random.default_rng(0).normal(size=8)
    before, after = np.linalg.norm(x - x.mean()), np.linalg.norm(W @ x - x.mean())
    assert after <= (1 - spectral_gap(W)) * before + 1e-12


def test_gap_of_one_node_is_one_and_of_islands_zero():
    assert spectral_gap(np.ones((1, 1))) == 1.0
    assert spectral_gap(mixing_matrix(TOPOLOGIES["lonely"])) == pytest.approx(0, abs=1e-12)


def test_matrices_are_measured_in_any_form_and_other_things_named():
    halves = [[0.5, 0.5], [0.5, 0.5]]
    assert (spectral_gap(halves), is_doubly_stochastic(halves)) == (1.0, True)
    for measure in (spectral_gap, is_doubly_stochastic):
        with pytest.raises(ValueError, match=r"shape \(2, 3\).*mixing_matrix"):
            measure(np.ones((2, 3)))
        with pytest.raises(ValueError, match="got Topology"):
            measure(TOPOLOGIES["ring"])
    for wrong in (lambda: local_weights(1, TOPOLOGIES["ring"]), lambda: mixing_matrix([[1]])):
        with pytest.raises(TypeError, match="topology must be a Topology"):
            wrong()
