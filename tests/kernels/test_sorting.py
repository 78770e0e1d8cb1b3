"""Sorting networks give the same bits in steps as comparator by comparator."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.kernels import native
from byzflow.kernels.columns import network


def one_by_one(X, comparators):
    X = X.copy()
    for low, high in comparators:
        a, b = X[low].copy(), X[high].copy()
        swap = (b < a) | np.isnan(a)
        X[low], X[high] = np.where(swap, b, a), np.where(swap, a, b)
    return X


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 13, 20, 33, 64, 70])
@pytest.mark.parametrize("with_nan", [False, True])
def test_steps_give_the_bits_of_lone_comparators(n, dtype, with_nan):
    rng = np.random.default_rng(n)
    X = rng.integers(-3, 3, (n, 1100)).astype(dtype)
    X[rng.random(X.shape) < 0.1] = -0.0
    X[rng.random(X.shape) < 0.05] = np.inf
    if with_nan:
        X[rng.random(X.shape) < 0.01] = np.nan
    for first, last in ((0, n), ((n - 1) // 2, (n - 1) // 2 + 1), (n // 8, n - n // 8)):
        comparators = network(n, first, last)
        Y = X.copy()
        native.compare_exchange(Y, comparators, native.steps(comparators))
        expected = one_by_one(X, comparators)
        assert Y[first:last].tobytes() == expected[first:last].tobytes()


def test_most_comparators_share_a_step():
    comparators = network(64, 31, 32)
    assert len(native.steps(comparators)) * 3 < len(comparators)
