"""Mixtures: what the rows of the answer have in common is worked out once, if no digits are lost by it."""

import numpy as np
import pytest
import torch

from byzflow.kernels.blocks import Span
from byzflow.kernels.combine import Mixture, combine_rows
from byzflow.kernels.intake import as_rows

N, D = 80, 2500


def leave_one_out(n=N):
    return (np.ones((n, n)) - np.eye(n)) / (n - 1)


def rows_of(seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((N, D)).astype(dtype)


def mixed(X, mixture, spans):
    rows = as_rows(list(X))
    out = np.empty((mixture.height, D), X.dtype)
    for span in spans:
        combine_rows(rows, mixture, span, out[:, span.lo : span.hi])
    return out


def sq_norms(X):
    return (X.astype(np.float64) ** 2).sum(axis=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_common_part_and_the_rest_make_the_whole(dtype):
    X, W = rows_of(dtype=dtype), leave_one_out()
    mixture = Mixture.of(W, sq_norms(X))
    assert mixture.common is not None
    assert len(mixture.sparse[1]) == N
    expected = W @ X.astype(np.float64)
    np.testing.assert_allclose(mixed(X, mixture, [Span(0, D)]), expected, atol=4 * np.finfo(dtype).eps)


def test_a_large_row_that_some_leave_out_costs_them_no_digits():
    X, W = rows_of(), leave_one_out()
    X[3] *= 1e12
    mixture = Mixture.of(W, sq_norms(X))
    assert mixture.common is None
    clean = mixed(X, mixture, [Span(0, D)])[3]
    np.testing.assert_allclose(clean, W[3] @ np.where(X > 1e6, 0, X).astype(np.float64), atol=1e-6)


def test_rows_of_unknown_size_have_nothing_in_common():
    W = leave_one_out()
    assert Mixture.of(W).common is None
    assert Mixture.of(W, np.zeros(N)).common is None


def test_the_bits_do_not_depend_on_where_columns_are_cut():
    X = rows_of()
    mixture = Mixture.of(leave_one_out(), sq_norms(X))
    whole = mixed(X, mixture, [Span(0, D)])
    parts = mixed(X, mixture, [Span(0, 17), Span(17, 1040), Span(1040, D)])
    assert whole.tobytes() == parts.tobytes()


def test_a_column_that_has_no_value_mostly_is_left_as_it_is():
    W = np.random.default_rng(0).random((N, N))
    assert Mixture.of(W, np.ones(N)).common is None


def test_half_precision_rows_that_are_left_out_are_not_read():
    X = rows_of().astype(np.float16)
    X[[0, 5]] = np.nan
    W = np.zeros((2, N))
    W[0, [7, 3]] = W[1, [3, 79]] = 0.5
    rows = as_rows([torch.from_numpy(x) for x in X])
    out = np.empty((2, D), np.float32)
    combine_rows(rows, Mixture.of(W), Span(0, D), out)
    np.testing.assert_allclose(out, [(X[3] + X[7]) / 2, (X[3] + X[79]) / 2], rtol=2e-3, atol=2e-3)
