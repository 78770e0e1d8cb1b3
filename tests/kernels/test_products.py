"""Inner products of rows, whatever part of a tile, a panel or a vector they fill."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.kernels import native


def products(X, start=0, width=None):
    width = X.shape[1] - start if width is None else width
    gram = np.full((len(X), len(X)), np.nan)
    native.write_products(native.addresses_of(X), start, width, np.empty(0, X.dtype), gram)
    return gram


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 3, 4, 66, 131])
@pytest.mark.parametrize("width", [1, 15, 16, 511, 1024, 1025, 3000])
def test_products_are_those_of_the_rows(n, width, dtype):
    X = np.random.default_rng(n + width).normal(size=(n, width)).astype(dtype)
    wide = X.astype(np.float64)
    got = products(X)
    error = 16 * np.finfo(dtype).eps * np.abs(wide) @ np.abs(wide).T
    assert (np.abs(got - wide @ wide.T) <= error).all()
    np.testing.assert_array_equal(got, got.T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_does_not_depend_on_the_other_rows_or_on_where_rows_lie(dtype):
    X = np.random.default_rng(0).normal(size=(70, 2100)).astype(dtype)
    whole = products(X, 7, 2001)
    for i, j in ((0, 1), (5, 69), (64, 63), (30, 66)):
        np.testing.assert_array_equal(products(X[[i, j], 7:2008].copy())[0, 1], whole[i, j])


def test_a_row_that_is_not_finite_spoils_its_own_products_only():
    X = np.random.default_rng(1).normal(size=(9, 1500)).astype(np.float32)
    clean, good = products(X), np.delete(np.arange(9), 4)
    for value in (np.nan, np.inf, 3e38):
        X[4, 1200] = value
        np.testing.assert_array_equal(products(X)[np.ix_(good, good)], clean[np.ix_(good, good)])
    assert np.isinf(products(X)[4, 4])
