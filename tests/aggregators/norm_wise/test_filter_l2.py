"""FilterL2 against the loop on the covariance itself."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.aggregators.norm_wise.filter_l2 import FilterL2


def slow(X, sigma, expansion):
    c = np.ones(len(X))
    while True:
        mu = c @ X / c.sum()
        values, vectors = np.linalg.eigh((c * (X - mu).T) @ (X - mu) / c.sum())
        if values[-1] <= expansion * sigma**2:
            return mu
        tau = np.where(c > 0, ((X - mu) @ vectors[:, -1]) ** 2, 0.0)
        c = c * (1 - tau / tau.max())


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("expansion", [0.5, 2.0, 20.0])
def test_result_equals_the_loop(seed, expansion):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(12, 3))
    X[:3] += 20.0
    result = FilterL2(sigma=1.0, expansion=expansion).aggregate(X)
    np.testing.assert_allclose(result, slow(X, 1.0, expansion), rtol=1e-6, atol=1e-9)


def test_calm_rows_give_their_mean():
    X = np.random.default_rng(0).normal(size=(6, 2))
    np.testing.assert_allclose(FilterL2(sigma=10.0).aggregate(X), X.mean(axis=0))


def test_a_tiny_bound_still_ends():
    X = np.random.default_rng(0).normal(size=(6, 2))
    assert np.isfinite(FilterL2(sigma=1e-150).aggregate(X)).all()


@pytest.mark.parametrize("seed", range(5))
def test_rows_that_are_all_as_far_out_give_their_mean(seed):
    a, b = np.random.default_rng(seed).normal(size=(2, 5))
    np.testing.assert_allclose(FilterL2(sigma=0.1).aggregate([a, b]), (a + b) / 2, rtol=1e-12)
    np.testing.assert_allclose(FilterL2(sigma=0.1).aggregate([a, -a, b, -b]), np.zeros(5), atol=1e-12)


def test_rows_that_mirror_each_other_give_their_centre():
    a = np.array([[-3.0, -4.0], [-1.0, -5.0], [-1.0, 4.0]])
    X, centre = np.vstack([a, -a]), np.array([-0.8, 0.5])
    for sigma in (0.1, 1.0):
        result = FilterL2(sigma=sigma, expansion=1.0).aggregate(X + centre)
        np.testing.assert_allclose(result, centre, atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e38])
def test_hostile_rows_lose_their_weight(bad):
    X = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    X[:2] = bad
    assert np.abs(FilterL2(sigma=1.0).aggregate(X)).max() < 3.0


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="sigma"):
        FilterL2(sigma=0.0)
    with pytest.raises(ValueError, match="expansion"):
        FilterL2(sigma=1.0, expansion=-1.0)
