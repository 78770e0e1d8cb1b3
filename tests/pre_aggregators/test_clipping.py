"""Clipping to a fixed norm."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.pre_aggregators.clipping import Clipping


def test_long_rows_are_shortened_and_short_ones_kept():
    long, short = Clipping(threshold=5.0).pre_aggregate([np.array([6.0, 8.0]), np.array([0.0, 3.0])])
    np.testing.assert_allclose(long, [3.0, 4.0])
    np.testing.assert_array_equal(short, [0.0, 3.0])


@pytest.mark.parametrize("norm", [1e-25, 1e-10])
def test_a_tiny_threshold_shortens_only_what_is_longer(norm):
    long, short = Clipping(threshold=norm).pre_aggregate([np.array([4 * norm]), np.array([0.5 * norm])])
    np.testing.assert_allclose([long, short], [[norm], [0.5 * norm]], rtol=1e-12)


def test_a_threshold_of_zero_gives_zeros():
    (row,) = Clipping(threshold=0.0).pre_aggregate([np.array([6.0, 8.0])])
    np.testing.assert_array_equal(row, [0.0, 0.0])


def test_a_huge_row_is_shortened_and_one_that_is_not_finite_becomes_zero():
    rows = [np.full(4, 1e38, np.float32), np.array([np.inf, 0, 0, 0], np.float32), np.zeros(4, np.float32)]
    huge, infinite, zero = Clipping(threshold=2.0).pre_aggregate(rows)
    np.testing.assert_allclose(huge, np.ones(4), rtol=1e-5)
    assert not infinite.any()
    assert not zero.any()


@pytest.mark.parametrize("threshold", [1e-3, 1e-4, 1e-5])
def test_a_huge_row_is_no_longer_than_a_tiny_threshold(threshold):
    (row,) = Clipping(threshold).pre_aggregate([np.full(10**6, 1e38, np.float32)])
    assert np.linalg.norm(row.astype(np.float64)) == pytest.approx(threshold, rel=1e-5)


def test_a_negative_threshold_is_refused():
    with pytest.raises(ValueError, match="threshold"):
        Clipping(threshold=-1.0)
