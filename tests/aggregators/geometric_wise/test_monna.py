"""MoNNA against neighbours counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from byzflow.aggregators.geometric_wise.monna import MoNNA
from byzflow.exceptions import ToleranceError


def column(*values):
    return [np.array([v]) for v in values]


def test_the_neighbours_of_the_reference_are_averaged():
    np.testing.assert_array_equal(MoNNA(f=1).aggregate(column(0.0, 1.0, 9.0)), [0.5])
    rows = column(0.0, 1.0, 9.0, 8.0, 10.0)
    np.testing.assert_array_equal(MoNNA(f=2, reference_index=2).aggregate(rows), [9.0])


def test_equal_distances_go_to_the_lower_index():
    np.testing.assert_array_equal(MoNNA(f=1).aggregate(column(0.0, -4.0, 4.0)), [-2.0])


def test_a_reference_that_is_not_finite_takes_the_first_finite_rows():
    np.testing.assert_array_equal(MoNNA(f=1).aggregate(column(np.nan, 1.0, 3.0)), [2.0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_infinite_rows_of_short_numbers_raise_no_warning(dtype):
    rows = [torch.tensor([value], dtype=dtype) for value in (np.inf, 1.0, 3.0, np.inf, 5.0)]
    assert MoNNA(f=2).aggregate(rows).tolist() == [3.0]


def test_bad_arguments_are_refused():
    with pytest.raises(ToleranceError, match="2 f < n; got f=1, n=2"):
        MoNNA(f=1).aggregate(column(0.0, 1.0))
    with pytest.raises(ValueError, match="reference_index=3, n=3"):
        MoNNA(f=1, reference_index=3).aggregate(column(0.0, 1.0, 2.0))
    with pytest.raises(ValueError, match="reference_index"):
        MoNNA(f=1, reference_index=-1)
