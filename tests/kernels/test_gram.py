"""The Gram matrix keeps the digits of distances, whatever liars send."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest

from byzflow.kernels import gram as module
from byzflow.kernels import native
from byzflow.kernels.blocks import Span
from byzflow.kernels.gram import gram_block, norms_block
from byzflow.kernels.intake import as_rows


def distances(gram):
    diagonal = gram.diagonal()
    return diagonal[:, None] + diagonal - 2 * gram


def exact(X):
    X = X.astype(np.float64)
    return ((X[:, None] - X[None]) ** 2).sum(2)


def rows_and_gram(X, anchors=()):
    return gram_block(as_rows(list(X)), Span(0, X.shape[1]), anchors)["gram"]


@pytest.fixture
def honest():
    return np.random.default_rng(0).normal(size=(11, 500)).astype(np.float32)


def off_diagonal(A, keep):
    A = A[:keep, :keep]
    return A[~np.eye(keep, dtype=bool)]


def test_a_common_offset_costs_no_digits(honest):
    X = 100 + np.float32(0.01) * honest
    got, want = distances(rows_and_gram(X)), exact(X)
    np.testing.assert_allclose(off_diagonal(got, 11), off_diagonal(want, 11), rtol=1e-5)


@pytest.mark.parametrize("liar", [0, 5, 10])
@pytest.mark.parametrize("size", [1e6, 1e18, 1e38])
def test_one_hidden_coordinate_does_not_spoil_the_distances_of_the_others(honest, liar, size):
    X = honest.copy()
    X[liar, 7] = size
    others = np.delete(np.arange(11), liar)
    got, want = distances(rows_and_gram(X)), exact(X)
    pairs = np.ix_(others, others)
    np.testing.assert_allclose(off_diagonal(got[pairs], 10), off_diagonal(want[pairs], 10), rtol=1e-5)
    np.testing.assert_allclose(got[liar, others], want[liar, others], rtol=1e-6)


def test_rows_of_1e38_have_finite_inner_products(honest):
    X = honest.copy()
    X[:2] = 1e38
    gram = rows_and_gram(X)
    assert np.isfinite(gram).all()
    np.testing.assert_allclose(distances(gram)[0, 2:], exact(X)[0, 2:], rtol=1e-6)


@pytest.mark.parametrize("d", [7, 500, 9000])
@pytest.mark.parametrize("size", [1e-17, 1e-25, 1e-41])
@pytest.mark.parametrize("liar", [0.0, 1.0, 1e15])
@pytest.mark.parametrize("kind", [list, lambda X: [array_api_strict.asarray(x) for x in X]])
def test_distances_of_float32_rows_do_not_vanish_with_their_squares(d, size, liar, kind):
    X = (np.random.default_rng(0).normal(size=(11, d)) * size).astype(np.float32)
    X[4] += np.float32(liar)
    others = np.ix_(*[np.delete(np.arange(11), 4 if liar else [])] * 2)
    found = gram_block(as_rows(kind(X)), Span(0, d), ("median", "zero"))["gram"]
    got, want = distances(found)[others], exact(X)[others]
    keep = len(got)
    np.testing.assert_allclose(off_diagonal(got, keep), off_diagonal(want, keep), rtol=1e-4)


def test_a_library_whose_arrays_may_not_be_written_to_is_copied_on_the_host(monkeypatch):
    def locked(array):  # as NumPy before 2.1 has all of them, and later ones those of libraries such as JAX
        shown = np.asarray(array).view()
        shown.flags.writeable = False
        return shown

    X = np.random.default_rng(0).normal(size=(5, 30)).astype(np.float32) * np.float32(1e-25)
    rows = as_rows([array_api_strict.asarray(x) for x in X])
    want = gram_block(rows, Span(0, 30), ("median", "zero"))["gram"]
    monkeypatch.setattr(np, "from_dlpack", locked)
    assert (gram_block(rows, Span(0, 30), ("median", "zero"))["gram"] == want).all()


def test_rows_that_are_all_zero_or_all_alike_are_taken_in_float32(honest, monkeypatch):
    monkeypatch.setattr(module, "_careful_gram", None)
    for X in (np.zeros((5, 3000)), np.full((5, 3000), 1e-12), honest):
        rows_and_gram(X.astype(np.float32), ("zero",))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_zero_in_the_gram_and_infinite_in_its_norm(honest, value):
    X = honest.copy()
    X[3, 200] = value
    stats = gram_block(as_rows(list(X)), Span(0, 500))
    assert np.isinf(stats["norms"][3])
    assert not stats["gram"][3].any()
    assert not stats["gram"][:, 3].any()
    others = np.delete(np.arange(11), 3)
    pairs = np.ix_(others, others)
    want = exact(X[others])
    np.testing.assert_allclose(distances(stats["gram"])[pairs], want, rtol=1e-5, atol=1e-3)


def test_anchors_are_the_median_and_the_origin(honest):
    gram = rows_and_gram(honest, ("median", "zero"))
    median = np.sort(honest, axis=0)[5]
    want = exact(np.vstack([honest, median, np.zeros(500, np.float32)]))
    np.testing.assert_allclose(off_diagonal(distances(gram), 13), off_diagonal(want, 13), rtol=1e-5)


def test_the_median_anchor_sorts_nan_last(honest):
    X = honest.copy()
    X[:2] = np.nan
    gram = rows_and_gram(X, ("median",))
    median = np.sort(X, axis=0)[5]
    np.testing.assert_allclose(distances(gram)[5, 11], ((X[5] - median) ** 2).sum(), rtol=1e-5)


def test_no_finite_row_at_all_gives_zeros():
    X = np.full((3, 4), np.nan)
    stats = gram_block(as_rows(list(X)), Span(0, 4))
    assert np.isinf(stats["norms"]).all()
    assert not stats["gram"].any()


def test_identical_rows_are_at_distance_zero():
    X = np.ones((5, 3000), np.float32) * np.float32(0.1)
    assert not distances(rows_and_gram(X)).any()


def test_norms_are_taken_in_float64(honest):
    X = honest.copy()
    X[0] = 1e38
    norms = norms_block(as_rows(list(X)), Span(0, 500))["norms"]
    np.testing.assert_allclose(norms, (X.astype(np.float64) ** 2).sum(1), rtol=1e-12)


@pytest.mark.parametrize("n", [63, 64, 97, 145])
def test_a_gram_matrix_taken_in_strips_is_symmetric_and_exact(n):
    X = np.random.default_rng(n).normal(size=(n, 300)).astype(np.float32)
    gram = rows_and_gram(X)
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_allclose(off_diagonal(distances(gram), n), off_diagonal(exact(X), n), rtol=2e-5)


@pytest.mark.parametrize("scale", [1.0, 1e6, 1e15])
def test_products_about_the_true_origin_keep_their_digits_beside_a_large_liar(honest, scale):
    X = np.tile(honest, (1, 30)) + np.float32(3.0)
    X[4] *= np.float32(-scale)
    gram = rows_and_gram(X, ("zero",))
    got = gram[:11, :11] - gram[:11, 11:] - gram[11:, :11] + gram[11, 11]
    wide = X.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1)
    off = ~np.eye(11, dtype=bool)
    assert (np.abs(got - wide @ wide.T) / np.outer(norms, norms))[off].max() <= 1e-5


@pytest.mark.parametrize("d", [7, 500, 9000])
@pytest.mark.parametrize("short", [1e-2, 1e-4, 1e-6])
def test_products_about_the_true_origin_keep_their_digits_for_a_row_near_it(d, short):
    X = (3.0 + np.random.default_rng(0).normal(size=(11, d))).astype(np.float32)
    X[4] *= np.float32(short)
    gram = rows_and_gram(X, ("zero",))
    got = gram[4, :11] - gram[4, 11] - gram[11, :11] + gram[11, 11]
    wide = X.astype(np.float64)
    others = np.delete(np.arange(11), 4)
    scale = np.linalg.norm(wide[4]) * np.linalg.norm(wide, axis=1)
    assert (np.abs(got - wide[4] @ wide.T) / scale)[others].max() <= 1e-5


def test_a_row_of_zeros_is_at_the_true_origin(monkeypatch):
    monkeypatch.setattr(module, "_careful_gram", None)  # that would be slow for nodes that send nothing
    X = (3.0 + np.random.default_rng(0).normal(size=(11, 9000))).astype(np.float32)
    X[4] = 0.0
    gram = rows_and_gram(X, ("median", "zero"))
    got = gram[4] - gram[4, 12] - gram[12] + gram[12, 12]
    assert np.abs(got).max() <= 1e-12 * gram[12, 12]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [range(64, 3064), range(5, 1029)])
@pytest.mark.parametrize("value", [1.0, np.nan, -np.inf])
def test_a_block_is_read_about_one_of_its_finite_rows(dtype, columns, value):
    X = (np.random.default_rng(1).normal(size=(33, 4000)) + 3.0).astype(dtype)
    X[7, 333] = value
    width, start = len(columns), columns.start
    whole, norms = np.empty((34, 34)), np.empty(33)
    where = (as_rows(list(X)).addresses, start, width, np.empty(0, dtype))
    assert native.centred_gram(*where, np.inf, 0.0, 0.0, norms, whole)
    np.testing.assert_array_equal(whole, whole.T)
    gram, to_zero = whole[:33, :33], whole[33]
    X = X[:, start : start + width]
    finite = np.isfinite(X).all(axis=1)
    (chosen,) = np.flatnonzero((gram == 0.0).all(axis=1) & finite)
    moved = np.where(finite[:, None], X - X[chosen], dtype(0.0)).astype(np.float64)
    np.testing.assert_allclose(gram, moved @ moved.T, rtol=1e-5, atol=1e-5 * gram.max())
    squares = (X.astype(np.float64) ** 2).sum(axis=1)
    np.testing.assert_allclose(norms, np.where(finite, squares, np.inf), rtol=1e-12)
    products = -moved @ X[chosen].astype(np.float64)
    np.testing.assert_allclose(to_zero[:33], np.where(finite, products, 0.0), atol=1e-6 * squares[chosen])
    np.testing.assert_allclose(to_zero[33], squares[chosen], rtol=1e-6)


def test_a_block_is_read_again_if_its_origin_turns_out_not_to_be_finite():
    X = np.random.default_rng(2).normal(size=(33, 2048)).astype(np.float32)
    X[:, 1] = np.inf  # beside what is sampled
    X[4, 1] = 0.0
    got = gram_block(as_rows(list(X)), Span(0, 2048), ("zero",))
    assert np.isfinite(got["norms"]).tolist() == [i == 4 for i in range(33)]
    assert np.isfinite(got["gram"]).all()
    np.testing.assert_allclose(distances(got["gram"])[4, 33], (X[4].astype(float) ** 2).sum(), rtol=1e-6)


def test_many_rows_are_measured_alike_wherever_their_columns_lie():
    X = (np.random.default_rng(3).normal(size=(33, 2048)) + 50.0).astype(np.float32)
    got = gram_block(as_rows(list(X)), Span(0, 2048))
    np.testing.assert_allclose(distances(got["gram"]), exact(X), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(got["norms"], (X.astype(float) ** 2).sum(1), rtol=1e-12)
    scattered = np.zeros((33, 2 * 2048 + 1), np.float32)[:, 1::2]
    scattered[:] = X
    again = gram_block(as_rows(list(scattered)), Span(0, 2048))
    np.testing.assert_array_equal(got["gram"], again["gram"])


def small_gram(X):
    gram, norms = np.empty((len(X), len(X))), np.empty(len(X))
    where, like = native.addresses_of(X), np.empty(0, X.dtype)
    assert native.small_gram(where, 0, X.shape[1], like, np.inf, (0.0, np.inf), norms, gram)
    return gram


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", range(1, 10))
def test_products_of_a_small_block_are_those_of_two_rows_alone(n, dtype):
    X = np.random.default_rng(n).normal(size=(n, 37)).astype(dtype)
    gram = small_gram(X)
    np.testing.assert_allclose(gram, X.astype(np.float64) @ X.T.astype(np.float64), atol=1e-4)
    for i in range(n):
        for j in range(n):
            assert small_gram(X[[i, j]])[0, 1] == gram[i, j]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_row_whose_products_leave_float32_spoils_none_of_a_small_block(honest, value):
    X = honest[:, :40].copy()
    X[0, 3] = value
    found = distances(rows_and_gram(X))[1:, 1:]
    np.testing.assert_allclose(found, exact(X[1:]), rtol=1e-4, atol=1e-4)
