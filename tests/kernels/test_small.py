"""Loops and products over small matrices."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.kernels.small import lined, product, vecmat


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_a_product_is_that_of_numpy_however_many_entries_are_zero(share):
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(30, 40)), rng.normal(size=(40, 7))
    A[rng.random(A.shape) >= share] = 0.0
    np.testing.assert_allclose(product(A, B), A @ B, atol=1e-13)
    np.testing.assert_allclose(product(A, B[:, 0]), A @ B[:, 0], atol=1e-13)


@pytest.mark.parametrize(
    "shape", [(1, 700, 3), (2, 1, 1), (5, 3, 9), (64, 64, 64), (66, 1025, 70), (3, 0, 2)]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_product_is_that_of_numpy_in_any_shape_and_layout(shape, order):
    m, n, k = shape
    random = np.random.default_rng(m)
    A, B = (np.asarray(random.normal(size=size), order=order) for size in ((m, n), (n, k)))
    np.testing.assert_allclose(product(A, B), A @ B, atol=1e-12)


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (3, 32), (5, 33)])
def test_every_row_begins_a_cache_line(rows, width):
    room = lined(rows, width)
    assert room.shape[1] >= width
    assert not room[:, width:].any()
    assert [room[i].ctypes.data % 64 for i in range(rows)] == [0] * rows


@pytest.mark.parametrize("rows", [0, 1, 6, 33])
@pytest.mark.parametrize("width", [1, 31, 32, 75])
def test_a_vector_times_a_matrix_is_that_of_numpy_whatever_their_sizes(rows, width):
    rng = np.random.default_rng(0)
    x, A, out = rng.normal(size=rows), rng.normal(size=(rows, width)), np.full(width, np.nan)
    vecmat(x, A, out)
    np.testing.assert_allclose(out, x @ A, atol=1e-13)
