"""CAF's eigenpair and filter."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.aggregators.norm_wise._spectrum import _scattered, top_spectrum
from byzflow.aggregators.norm_wise._tridiagonal import largest_pair, largest_root
from byzflow.aggregators.norm_wise.caf import CAF
from byzflow.exceptions import ToleranceError


@pytest.mark.parametrize("seed", range(10))
def test_spectrum_equals_that_of_the_covariance(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(8, 4)) + 50.0
    w = rng.random(8) * (rng.random(8) < 0.7)
    w[0] = 1.0
    mean = w @ X / w.sum()
    values, vectors = np.linalg.eigh((w * (X - mean).T) @ (X - mean) / w.sum())
    C = X - X[3]
    spectrum = top_spectrum(C @ C.T, w)
    assert spectrum.value == pytest.approx(values[-1])
    expected = np.where(w > 0, ((X - mean) @ vectors[:, -1]) ** 2, 0.0)
    np.testing.assert_allclose(spectrum.squares, expected, atol=1e-9)


def test_no_liars_give_the_plain_mean():
    X = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(CAF(f=0).aggregate(X), X.mean(axis=0))


def test_an_outlier_loses_its_weight():
    rows = [np.array([v]) for v in (0.0, 1.0, 2.0, 3.0, 1000.0)]
    assert 0.0 < CAF(f=1).aggregate(rows)[0] < 3.0


def test_a_liar_among_tiny_rows_loses_its_weight():
    rows = [np.array([v * 1e-12]) for v in (0.0, 1.0, 2.0, 3.0, 1e5)]
    assert 0.0 < CAF(f=1).aggregate(rows)[0] < 3e-12


def test_rows_that_agree_give_what_they_agree_on():
    np.testing.assert_array_equal(CAF(f=1).aggregate([np.full(2, 3.0)] * 4), [3.0, 3.0])


def test_bad_arguments_are_refused():
    with pytest.raises(ToleranceError, match="2 f < n; got f=2, n=4"):
        CAF(f=2).aggregate([np.zeros(1)] * 4)
    with pytest.raises(ValueError, match="power_iters"):
        CAF(f=1, power_iters=0)


@pytest.mark.parametrize(("n", "d"), [(1, 3), (2, 1), (40, 200), (60, 7), (90, 90)])
def test_the_spectrum_is_converged_whatever_the_shape_and_the_weights(n, d):
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, d))
    w = rng.random(n) ** 20  # down to 1e-40
    centred = X - w @ X / w.sum()
    gram, root = centred @ centred.T, np.sqrt(w / w.sum())
    values, vectors = np.linalg.eigh(root[:, None] * gram * root)
    spectrum = top_spectrum(X @ X.T, w)
    assert spectrum.value == pytest.approx(values[-1], rel=1e-12, abs=1e-12)
    expected = (gram @ (root * vectors[:, -1])) ** 2 / values[-1] if n > 1 else np.zeros(1)
    np.testing.assert_allclose(spectrum.squares, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_the_spectrum_of_equal_eigenvalues_is_one_of_them(scale):
    spectrum = top_spectrum(np.eye(6) * scale, np.ones(6))
    assert spectrum.value == pytest.approx(scale / 6)
    assert spectrum.squares.sum() == pytest.approx(scale)


@pytest.mark.parametrize(("n", "d"), [(50, 500), (150, 1500)])
def test_the_spectrum_is_right_where_hardly_a_direction_stands_out(n, d):
    X = np.random.default_rng(0).normal(size=(n, d))
    centred = X - X.mean(axis=0)
    values = np.linalg.eigvalsh(centred @ centred.T / n)
    assert top_spectrum(X @ X.T, np.ones(n)).value == pytest.approx(values[-1], rel=1e-12)


@pytest.mark.parametrize("huge", [1e38, -1e12])
@pytest.mark.parametrize("n", range(3, 22))
def test_one_huge_row_is_filtered_wherever_it_stands(n, huge):
    honest = np.random.default_rng(n).normal(size=(n, 3))
    for place in range(n):
        X = honest.copy()
        X[place] = huge
        assert np.abs(CAF(f=1).aggregate(X)).max() <= np.abs(honest).max()


@pytest.mark.parametrize("n", [5, 12, 40])
@pytest.mark.parametrize("size", [1e3, 1e10, 1e30])
def test_two_rows_that_hide_from_the_start_are_found(n, size):
    rng = np.random.default_rng(n)
    start = np.array([_scattered(i, 0) for i in range(n)])
    start -= start.mean()
    for a, b in rng.permuted(np.tile(np.arange(n), (20, 1)), axis=1)[:, :2]:
        X = rng.normal(size=(n, 4))
        X[a], X[b] = size * start[b], -size * start[a]
        expected = np.linalg.eigvalsh((X - X.mean(axis=0)).T @ (X - X.mean(axis=0)) / n)[-1]
        np.testing.assert_allclose(top_spectrum(X @ X.T, np.ones(n)).value, expected, rtol=1e-9)


@pytest.mark.parametrize("k", [1, 2, 12, 60])
def test_an_estimate_of_the_top_of_a_tridiagonal_matrix_is_a_bound_near_it(k):
    rng = np.random.default_rng(k)
    diagonal, beside, vector = 2.0 + rng.random(k), np.append(0.5 * rng.random(k - 1), 0.0), np.empty(k)
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1))
    rough = largest_root(diagonal, beside, k, np.inf, 1e-2, vector)
    assert -1e-15 < rough / values[-1] - 1.0 < 1e-3
    assert largest_pair(diagonal, beside, k, rough, vector) == pytest.approx(values[-1], rel=1e-15)
    np.testing.assert_allclose(np.abs(vector), np.abs(vectors[:, -1]), atol=1e-12)


def test_rows_that_are_equally_far_out_go_together():
    X = np.array([[2, 0], [-3, 1], [-2, 3], [1, 2], [2, 2], [-1, 0], [-1, 3]], dtype=float)
    # The first two are; without both, what is left has the least variance along any direction.
    np.testing.assert_allclose(CAF(f=3).aggregate(X), [-0.389982110912, 1.790697674419], rtol=1e-9)


@pytest.mark.parametrize(
    ("rows", "f"), [((0, 1, 3, 10), 1), ((0, 1, 2, 3, 10), 2), ((5, 6, 9, -20, 8, 40), 2)]
)
def test_a_row_whose_weight_is_gone_still_sets_the_step(rows, f):
    w, calmest = [1.0] * len(rows), (np.inf, 0.0)
    while sum(w) > len(rows) - 2 * f:
        mean = sum(a * x for a, x in zip(w, rows, strict=True)) / sum(w)
        tau = [(x - mean) ** 2 for x in rows]
        variance = sum(a * t for a, t in zip(w, tau, strict=True)) / sum(w)
        calmest = min(calmest, (variance, mean))
        w = [a * (1 - t / max(tau)) for a, t in zip(w, tau, strict=True)]
    aggregate = CAF(f=f).aggregate([np.array([float(x)]) for x in rows])
    np.testing.assert_allclose(aggregate, [calmest[1]], rtol=1e-9)


@pytest.mark.parametrize("far", [1e3, 1e6, 1e30, 1e120])
def test_a_row_however_far_out_does_not_keep_the_loop_busy(far):
    X = np.random.default_rng(0).normal(size=(40, 6))
    X[:9] *= far
    aggregate = CAF(f=9).aggregate(X)
    assert np.linalg.norm(aggregate) < 1.0
