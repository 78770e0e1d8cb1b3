"""The plain and the weighted mean."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import torch

from byzflow.aggregators.average import Average
from byzflow.exceptions import ToleranceError

ROWS = [np.array([0.0, 1.0]), np.array([3.0, 1.0]), np.array([6.0, 4.0])]


def test_average_is_the_mean():
    np.testing.assert_array_equal(Average().aggregate(ROWS), [3.0, 2.0])


def test_node_weights_are_scaled_to_one():
    np.testing.assert_allclose(Average(node_weights=[2, 0, 2]).aggregate(ROWS), [3.0, 2.5])


def test_rows_that_are_not_finite_are_left_out():
    rows = [*ROWS, np.array([np.nan, 0.0]), np.array([0.0, np.inf])]
    np.testing.assert_allclose(Average().aggregate(rows), [3.0, 2.0])


@pytest.mark.parametrize("beside", [1.0, np.nan])
def test_a_row_too_large_to_square_counts_on_every_path(beside):
    X = np.array([[1.0, 2.0], [1.0, beside], [1e200, 0.0]])
    left = X[np.isfinite(X).all(axis=1)]
    eager = Average().aggregate(X)
    np.testing.assert_allclose(eager, left.mean(axis=0))
    for chunks in ((3, 1), (3, 2)):
        lazy = Average().aggregate(da.from_array(X, chunks=chunks))
        np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), eager)


def test_no_finite_row_is_a_tolerance_error():
    with pytest.raises(ToleranceError, match="finite row"):
        Average().aggregate([np.full(2, np.nan)] * 3)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_node_weights_may_be_any_sequence_and_are_copied(kind):
    given = kind([2.0, 0.0, 2.0])
    rule = Average(node_weights=given)
    assert hash(rule) == hash(Average(node_weights=(2, 0, 2)))
    np.testing.assert_allclose(rule.aggregate(ROWS), [3.0, 2.5])


def test_huge_node_weights_do_not_add_up_to_infinity():
    np.testing.assert_allclose(Average(node_weights=[1e308, 0, 1e308]).aggregate(ROWS), [3.0, 2.5])


@pytest.mark.parametrize(("bad", "kind"), [(3.0, TypeError), ("12", TypeError), ((1, np.inf), ValueError)])
def test_what_are_no_node_weights_is_refused(bad, kind):
    with pytest.raises(kind, match=r"node_weights must be .*; got .*\. "):
        Average(node_weights=bad)


def test_wrong_node_weights_are_refused():
    with pytest.raises(ValueError, match="got 2 for n=3"):
        Average(node_weights=(1, 1)).aggregate(ROWS)
    with pytest.raises(ValueError, match="node_weights"):
        Average(node_weights=(1, -1))
    with pytest.raises(TypeError, match="node_weights"):
        Average(node_weights=("one",))
