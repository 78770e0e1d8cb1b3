"""The geometric median is the optimum, wherever that is and wherever the iterates go."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from byzflow.aggregators.geometric_wise._weiszfeld import median_weights
from byzflow.aggregators.geometric_wise.geometric_median import GeometricMedian
from byzflow.exceptions import ToleranceError


def total_distance(X, z):
    return np.linalg.norm(X - z, axis=1).sum()


def excess_force(X, z):
    """0 at the optimum: the unit vectors that do not cancel, less the rows that lie on z."""
    away = X - z
    lengths = np.linalg.norm(away, axis=1)
    apart = lengths > 1e-9
    pull = np.linalg.norm((away[apart] / lengths[apart, None]).sum(axis=0))
    return max(0.0, pull - np.count_nonzero(~apart))


@pytest.mark.parametrize("d", [1, 2, 3, 10, 200])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 20])
def test_no_force_is_left_at_the_median(n, d):
    for seed in range(5):
        X = np.random.default_rng(seed).normal(size=(n, d))
        assert excess_force(X, GeometricMedian().aggregate(X)) < 1e-7


@pytest.mark.parametrize("seed", range(5))
def test_median_is_as_good_as_a_general_minimiser(seed):
    rng = np.random.default_rng(seed)
    X = np.vstack([rng.normal(size=(8, 3)), 5 + 0.1 * rng.normal(size=(3, 3))])
    z = GeometricMedian().aggregate(X)
    general = minimize(lambda p: total_distance(X, p), X.mean(axis=0), method="Nelder-Mead", tol=1e-10)
    assert total_distance(X, z) <= general.fun * (1 + 1e-9)


def test_an_iterate_on_a_row_that_is_not_the_optimum_goes_on():
    # The coordinate-wise median is the first row, where Weiszfeld's iteration would stay for ever.
    X = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 3.0], [-2.0, -1.0], [3.0, -0.5]])
    assert excess_force(X, GeometricMedian().aggregate(X)) < 1e-9


def test_an_optimum_on_a_row_is_that_row_exactly():
    X = np.array([[1.0, 0.0], [-1.0, 0.1], [0.25, 0.125], [0.0, 1.0], [0.1, -1.0]])
    np.testing.assert_array_equal(GeometricMedian().aggregate(X), [0.25, 0.125])


def test_coincident_rows_hold_the_median():
    X = np.array([[2.0, 3.0]] * 3 + [[9.0, -4.0], [8.0, 1.0]])
    np.testing.assert_array_equal(GeometricMedian().aggregate(X), [2.0, 3.0])


@pytest.mark.parametrize("scale", [1e-13, 1e-25])
def test_tiny_rows_are_not_one_point(scale):
    X = np.random.default_rng(0).normal(size=(9, 4))
    X[8] = 1e3
    expected = GeometricMedian().aggregate(X)
    np.testing.assert_allclose(GeometricMedian().aggregate(X * scale) / scale, expected, rtol=1e-6)


def test_an_optimum_very_near_a_row_is_found():
    angle = np.deg2rad([90.0, 210.0, 330.0])
    X = np.vstack([np.c_[np.cos(angle), np.sin(angle)], [[1e-7, 0.0]], [[0.0, 5.0]]])
    assert excess_force(X, GeometricMedian().aggregate(X)) < 1e-6


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
@pytest.mark.parametrize(("init", "expected"), [("median", 1.0), ("mean", 1.5)])
def test_even_rows_on_a_line_give_a_middle_row(init, expected, order):
    rows = [np.array([(0.0, 1.0, 100.0, 1.5)[i]]) for i in order]
    np.testing.assert_array_equal(GeometricMedian(init=init).aggregate(rows), [expected])


def test_even_rows_on_a_line_in_the_plane_give_the_first_middle_row():
    rows = [t * np.array([1.0, -1.0]) for t in (7.0, 3.0, 2.0, -4.0)]
    np.testing.assert_array_equal(GeometricMedian().aggregate(rows), [3.0, -3.0])


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_accuracy_does_not_depend_on_scale(scale):
    X = np.random.default_rng(3).normal(size=(9, 4))
    z = GeometricMedian().aggregate(X * scale)
    np.testing.assert_allclose(z / scale, GeometricMedian().aggregate(X), rtol=1e-6)


@pytest.mark.parametrize("bad", [1e38, np.inf, np.nan])
def test_far_rows_pull_with_a_unit_force_and_no_more(bad):
    X = np.random.default_rng(0).normal(size=(11, 6)).astype(np.float32)
    X[:2] = bad
    z = GeometricMedian().aggregate(list(X))
    far = np.full((2, 6), 1e10)  # as good as 1e38 in direction
    honest = X[2:].astype(np.float64)
    assert excess_force(np.vstack([honest, far]) if bad == 1e38 else honest, z) < 1e-5


def test_hundred_collinear_rows_give_the_middle_one():
    t = np.random.default_rng(1).permutation(101.0 * np.arange(101))
    X = np.outer(t, [1.0, -2.0, 0.5])
    np.testing.assert_allclose(GeometricMedian().aggregate(X), np.array([1.0, -2.0, 0.5]) * 5050.0)


def test_solver_needs_few_iterations_where_weiszfeld_is_slow():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    weights = median_weights(X @ X.T, np.zeros(30), tol=1e-6, max_iter=15, eps=1e-12)
    assert excess_force(X, weights @ X) < 1e-9


def test_bad_options_are_refused():
    for options in ({"tol": 0.0}, {"eps": 0.0}, {"max_iter": 0}, {"init": "zero"}, {"chunk_size": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            GeometricMedian(**options)


def test_no_finite_row_is_a_tolerance_error():
    with pytest.raises(ToleranceError, match="GeometricMedian"):
        GeometricMedian().aggregate([np.full(2, np.nan)] * 3)


@pytest.mark.parametrize("far", [1e8, 1e20, 1e38, 1e100])
@pytest.mark.parametrize("n", [4, 5, 7])
def test_one_far_row_hides_no_difference_between_the_others(n, far):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n, 2))
        X[0] = far * rng.normal(size=2)
        near, pull = X[1:], X[0] / np.linalg.norm(X[0])

        def total(z, near=near, pull=pull):  # less the distance of the far row, which none moves
            return np.linalg.norm(near - z, axis=1).sum() - z @ pull

        assert total(GeometricMedian().aggregate(list(X))) <= min(map(total, near)) + 1e-7
