"""The smoothed Weiszfeld steps of RFA, written out."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.aggregators.geometric_wise.geometric_median import GeometricMedian
from byzflow.aggregators.geometric_wise.smoothed_geometric_median import SmoothedGeometricMedian
from byzflow.exceptions import ToleranceError


def slow(X, a, nu, T):
    z = np.zeros(X.shape[1])
    for _ in range(T):
        b = a / np.maximum(nu, np.linalg.norm(X - z, axis=1))
        z = b @ X / b.sum()
    return z


@pytest.mark.parametrize("T", [1, 3, 8])
@pytest.mark.parametrize("nu", [1e-6, 1.0, 100.0])
def test_steps_equal_the_formula(T, nu):
    rng = np.random.default_rng(T)
    X, a = rng.normal(size=(7, 3)) + 2.0, rng.random(7)
    result = SmoothedGeometricMedian(nu=nu, T=T, node_weights=list(a)).aggregate(X)
    np.testing.assert_allclose(result, slow(X, a, nu, T), rtol=1e-9)


def test_distances_to_a_row_that_the_centre_nears_keep_their_digits():
    # The start is row 1, which the centre leaves by 1e-5: inner products of rows of 65 lose that distance.
    X = np.array([[1, -1], [0, 0], [65, 65], [1, -1], [64, 64], [62, 62], [65, 64], [2, 1], [65, 64]], float)
    result = SmoothedGeometricMedian(nu=1e-6, T=3).aggregate(X)
    np.testing.assert_allclose(result, slow(X, np.ones(9), 1e-6, 3), rtol=1e-6)


def test_many_steps_reach_the_geometric_median():
    X = np.random.default_rng(0).normal(size=(9, 3))
    np.testing.assert_allclose(
        SmoothedGeometricMedian(T=500).aggregate(X), GeometricMedian().aggregate(X), atol=1e-6
    )


def test_a_great_radius_gives_the_weighted_mean():
    rows = [np.array([v]) for v in (0.0, 4.0)]
    np.testing.assert_allclose(SmoothedGeometricMedian(nu=1e9, node_weights=(3, 1)).aggregate(rows), [1.0])


def test_bad_arguments_are_refused():
    for options in ({"nu": 0.0}, {"T": 0}, {"node_weights": (-1.0,)}):
        with pytest.raises(ValueError, match=next(iter(options))):
            SmoothedGeometricMedian(**options)
    with pytest.raises(ValueError, match="got 1 for n=2"):
        SmoothedGeometricMedian(node_weights=(1.0,)).aggregate([np.zeros(1), np.ones(1)])
    with pytest.raises(ToleranceError, match="finite row"):
        SmoothedGeometricMedian().aggregate([np.full(1, np.nan)])
