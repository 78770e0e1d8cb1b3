"""Minimum-variance averaging equals exhaustive search."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from byzflow.aggregators.geometric_wise._least_variance import least_variance
from byzflow.aggregators.geometric_wise.minimum_variance_average import MinimumVarianceAveraging
from byzflow.exceptions import ToleranceError


def squared_distances(X):
    return ((X[:, None] - X[None]) ** 2).sum(axis=2)


def exhaustive(D, m):
    """The first subset with the least sum of squared distances, up to rounding."""
    costs = {S: D[np.ix_(S, S)].sum() for S in itertools.combinations(range(len(D)), m)}
    least = min(costs.values())
    return next(S for S, cost in costs.items() if cost <= least * (1 + 1e-11) + 1e-13)


@pytest.mark.parametrize("kind", ["continuous", "lattice", "wide", "liars", "equal"])
@pytest.mark.parametrize("seed", range(25))
def test_subset_equals_exhaustive_search(seed, kind):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 11)
    m = rng.integers(1, n + 1)
    d = 200 if kind == "wide" else rng.integers(1, 4)
    X = rng.integers(0, 4, size=(n, d)).astype(float) if kind == "lattice" else rng.normal(size=(n, d))
    if kind == "liars":
        X[: n // 3] += rng.choice([1.0, 100.0, 1e20])
    elif kind == "equal":
        X[:] = X[0]
    D = squared_distances(X)
    assert tuple(least_variance(D, m)) == exhaustive(D, m)


@pytest.mark.parametrize(("n", "f", "d"), [(64, 8, 1000), (30, 8, 3), (40, 10, 20)])
def test_many_rows_take_well_under_a_second(n, f, d):
    D = squared_distances(np.random.default_rng(0).normal(size=(n, d)))
    least_variance(D[:3, :3], 2)  # compiled, maybe, before the clock runs
    begun = time.thread_time()  # the machine may be busy with other things, or stand still
    least_variance(D, n - f)
    assert time.thread_time() - begun < 1.0


@pytest.mark.parametrize("shape", ["simplex", "cross"])
def test_the_first_of_millions_of_equal_subsets_is_found(shape):
    corners = np.eye(30) if shape == "simplex" else np.vstack((np.eye(15), -np.eye(15)))
    # It took minutes to see that none of the others comes before the first.
    assert least_variance(squared_distances(corners), 22).tolist() == list(range(22))


def test_the_calmest_rows_are_averaged():
    rows = [np.array([v]) for v in (0.0, 9.0, 1.0, 2.0)]
    np.testing.assert_allclose(MinimumVarianceAveraging(f=1).aggregate(rows), [1.0])


def test_too_many_liars_are_refused():
    with pytest.raises(ToleranceError, match="2 f < n; got f=1, n=2"):
        MinimumVarianceAveraging(f=1).aggregate([np.zeros(1), np.ones(1)])
