"""Minimum-diameter averaging equals exhaustive search, and is fast where that is hopeless."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from byzflow.aggregators.geometric_wise._vertex_cover import has_cover, smallest_diameter
from byzflow.aggregators.geometric_wise.minimum_diameter_average import MinimumDiameterAveraging
from byzflow.exceptions import ToleranceError


def squared_distances(X):
    return ((X[:, None] - X[None]) ** 2).sum(axis=2)


def exhaustive(D, m):
    subsets = itertools.combinations(range(len(D)), m)
    return min(subsets, key=lambda S: (D[np.ix_(S, S)].max(), S))


@pytest.mark.parametrize("kind", ["continuous", "lattice"])
@pytest.mark.parametrize("seed", range(60))
def test_subset_equals_exhaustive_search(seed, kind):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 11)
    m = rng.integers(1, n + 1)
    shape = (n, rng.integers(1, 4))
    X = rng.normal(size=shape) if kind == "continuous" else rng.integers(0, 3, size=shape).astype(float)
    D = squared_distances(X)
    assert tuple(smallest_diameter(D, m)) == exhaustive(D, m)


@pytest.mark.parametrize("seed", range(40))
def test_cover_equals_exhaustive_search(seed):
    rng = np.random.default_rng(seed)
    n = 8
    edges = [e for e in itertools.combinations(range(n), 2) if rng.random() < 0.2 + 0.02 * seed]
    graph = [sum(1 << j for i, j in (*edges, *((b, a) for a, b in edges)) if i == p) for p in range(n)]
    least = min(
        len(C)
        for k in range(n + 1)
        for C in itertools.combinations(range(n), k)
        if all(i in C or j in C for i, j in edges)
    )
    assert [has_cover(graph, (1 << n) - 1, k) for k in range(n)] == [k >= least for k in range(n)]


@pytest.mark.parametrize("kind", ["gauss", "cube", "sphere", "random metric"])
def test_a_hundred_rows_with_twenty_liars_take_well_under_a_second(kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 30))
    if kind == "cube":
        X = rng.integers(0, 2, size=(100, 7)).astype(float)
    elif kind == "sphere":
        X /= np.linalg.norm(X, axis=1, keepdims=True)
    D = squared_distances(X)
    if kind == "random metric":
        D = np.triu(1 + rng.random((100, 100)), 1)
        D += D.T
    smallest_diameter(D[:3, :3], 2)  # compiled, maybe, before the clock runs
    begun = time.thread_time()  # the machine may be busy with other things, or stand still
    subset = smallest_diameter(D, 80)
    assert time.thread_time() - begun < 0.5
    assert len(set(subset)) == 80


def test_the_tightest_rows_are_averaged():
    rows = [np.array(v, dtype=float) for v in ([0, 0], [4, 4], [4, 5], [5, 4], [-9, 0])]
    np.testing.assert_allclose(MinimumDiameterAveraging(f=2).aggregate(rows), [13 / 3, 13 / 3])


def test_equal_diameters_go_to_the_first_subset():
    rows = [np.array([v]) for v in (0.0, 1.0, 2.0, 3.0)]
    np.testing.assert_array_equal(MinimumDiameterAveraging(f=1).aggregate(rows), [1.0])


def test_one_row_left_is_the_first_finite_one():
    rows = [np.array([v]) for v in (np.nan, 7.0, 2.0)]
    np.testing.assert_array_equal(MinimumDiameterAveraging(f=2).aggregate(rows), [7.0])


def test_too_many_liars_are_refused():
    with pytest.raises(ToleranceError, match="f < n; got f=2, n=2"):
        MinimumDiameterAveraging(f=2).aggregate([np.zeros(1), np.ones(1)])
    with pytest.raises(ToleranceError, match="at least 2 finite rows of 3"):
        MinimumDiameterAveraging(f=1).aggregate([np.zeros(1), np.full(1, np.inf), np.full(1, np.nan)])
