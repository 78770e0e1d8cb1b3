"""Consensus distance: the mean squared distance to the mean, and no agreement where there are no numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from byzflow.engine.peer_to_peer.consensus import consensus_distance


def test_distance_is_that_to_the_mean():
    X = np.random.default_rng(0).normal(size=(5, 7)) + 1e6
    expected = ((X - X.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert consensus_distance(list(X)) == pytest.approx(expected, rel=1e-6)
    assert consensus_distance([[0.0, 0.0], [2.0, 2.0]]) == 2.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_that_has_diverged_agrees_with_nobody(bad):
    assert math.isnan(consensus_distance([np.array([bad, 1.0]), np.ones(2)]))


def test_vectors_of_different_shapes_are_named():
    with pytest.raises(ValueError, match=r"one shape; got \[\(2,\), \(3,\)\]"):
        consensus_distance([np.zeros(3), np.zeros(2)])
