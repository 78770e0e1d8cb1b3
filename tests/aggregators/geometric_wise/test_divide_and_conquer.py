"""DnC: what it throws out, and that its draws do not depend on how columns are cut."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.aggregators.geometric_wise import DivideAndConquer
from byzflow.exceptions import ToleranceError
from byzflow.kernels.blocks import Span
from byzflow.kernels.intake import as_rows
from byzflow.kernels.sample import sample_block


def test_rows_far_out_along_the_top_direction_are_thrown_out():
    rows = [np.array([v, 0.1 * i]) for i, v in enumerate((1.0, 2.0, 3.0, 4.0, 80.0))]
    np.testing.assert_allclose(DivideAndConquer(f=1).aggregate(rows), [2.5, 0.15])


def test_c_scales_the_number_thrown_out():
    rows = [np.array([v]) for v in (1.0, 2.0, 3.0, 70.0, 80.0)]
    assert DivideAndConquer(f=1, c=2.0).aggregate(rows) == 2.0


def test_colluding_liars_are_thrown_out_in_many_dimensions():
    X = np.random.default_rng(0).normal(size=(20, 30_000))
    X[:5] += 1.5
    for seed in range(3):
        rule = DivideAndConquer(f=5, iterations=3, dimension=2000, seed=seed)
        np.testing.assert_allclose(rule.aggregate(list(X)), X[5:].mean(0), atol=1e-12)


def test_iterations_that_agree_on_nobody_keep_the_least_suspected():
    X = np.eye(5) * [5.0, 4.0, 3.0, 2.0, 1.0]
    got = DivideAndConquer(f=2, iterations=50, dimension=1).aggregate(list(X))
    assert np.isfinite(got).all()


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_sample_of_a_union_is_the_sample_of_the_samples(size):
    X = np.arange(9000.0).reshape(1, 9000)
    whole = sample_block(X, (3, 1), Span(0, 9000), size)
    for cut in (1, 4096, 8000):
        left = sample_block(X[:, :cut], (3, 1), Span(0, cut), size)
        right = sample_block(X[:, cut:], (3, 1), Span(cut, 9000), size)
        joined = left + right
        assert len(joined.keys) == size
        assert np.array_equal(np.sort(joined.columns), np.sort(whole.columns))


def test_sample_is_spread_over_all_columns():
    X = np.arange(20_000.0).reshape(1, -1)
    drawn = sample_block(X, (0,), Span(0, 20_000), 2000).columns
    assert abs(drawn.mean() - 10_000) < 500
    assert len(np.unique(drawn)) == 2000


def test_measure_keeps_little_of_a_late_block():
    block = as_rows(np.ones((2, 1000)))
    sample = sample_block(block.read(Span(0, 1000)), (0,), Span(999_000, 1_000_000), 100)
    assert len(sample.keys) < 10


@pytest.mark.parametrize(("f", "c"), [(2, 1.0), (1, 4.0)])
def test_too_many_rows_to_throw_out_are_refused(f, c):
    with pytest.raises(ToleranceError, match="DivideAndConquer needs"):
        DivideAndConquer(f=f, c=c).aggregate([np.zeros(2)] * 4)
