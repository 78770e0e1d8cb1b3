"""FABA, one row at a time."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.aggregators.geometric_wise.faba import FABA
from byzflow.exceptions import ToleranceError


def slow(X, f):
    kept = list(range(len(X)))
    for _ in range(f):
        mean = X[kept].mean(axis=0)
        kept.remove(max(kept, key=lambda i: (np.linalg.norm(X[i] - mean), -i)))
    return X[kept].mean(axis=0)


@pytest.mark.parametrize("seed", range(10))
def test_rows_go_one_after_another(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(9, 4))
    X[:3] += 4 * rng.normal(size=4)
    np.testing.assert_allclose(FABA(f=4).aggregate(X), slow(X, 4), rtol=1e-10)


def test_the_mean_moves_after_each_row():
    rows = [np.array([v]) for v in (0.0, 0.0, 1.0, 4.0, 100.0)]
    np.testing.assert_allclose(FABA(f=2).aggregate(rows), [1 / 3])


def test_of_equally_far_rows_the_lower_one_goes_first():
    # Two of them are equally far from the mean of all, which is no whole number.
    rows = [np.array(v, float) for v in ([2, 0], [2, 1], [0, 2], [2, 0], [1, -2], [0, 0])]
    farthest = [np.square(6 * row - sum(rows)).sum() for row in rows]
    first = int(np.argmax(farthest))
    assert farthest.count(max(farthest)) == 2
    np.testing.assert_allclose(FABA(f=1).aggregate(rows), np.mean(rows[:first] + rows[first + 1 :], axis=0))


def test_rows_that_are_not_finite_go_first():
    rows = [np.array([v]) for v in (0.0, np.nan, 1.0, np.inf, 50.0, 0.5, 0.5)]
    np.testing.assert_allclose(FABA(f=3).aggregate(rows), [0.5])


def test_too_many_liars_are_refused():
    with pytest.raises(ToleranceError, match="2 f < n; got f=1, n=2"):
        FABA(f=1).aggregate([np.zeros(1), np.ones(1)])
