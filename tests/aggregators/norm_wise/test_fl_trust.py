"""FLTrust against its formula."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.aggregators.norm_wise.fl_trust import FLTrust
from byzflow.exceptions import ToleranceError


def slow(g, X):
    cosines = X @ g / (np.linalg.norm(X, axis=1) * np.linalg.norm(g))
    trust = np.maximum(cosines, 0.0)
    scaled = X * (np.linalg.norm(g) / np.linalg.norm(X, axis=1))[:, None]
    return trust @ scaled / trust.sum()


@pytest.mark.parametrize("reference", [0, 3])
@pytest.mark.parametrize("offset", [0.0, 2.0, 50.0])
def test_result_equals_the_formula(reference, offset):
    X = np.random.default_rng(0).normal(size=(8, 5)) + offset
    expected = slow(X[reference], np.delete(X, reference, axis=0))
    np.testing.assert_allclose(FLTrust(reference_index=reference).aggregate(X), expected, rtol=1e-9)


def test_rows_that_disagree_have_no_say():
    rows = [np.array([1.0, 0.0]), np.array([3.0, 0.0]), np.array([-50.0, 1.0]), np.array([0.0, 9.0])]
    np.testing.assert_allclose(FLTrust().aggregate(rows), [1.0, 0.0], atol=1e-15)


def test_nobody_who_agrees_gives_a_zero_step():
    rows = [np.array([1.0, 0.0]), np.array([-3.0, 0.0]), np.array([-1.0, 1.0])]
    np.testing.assert_array_equal(FLTrust().aggregate(rows), [0.0, 0.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e38, 0.0])
def test_hostile_rows_cannot_stretch_the_result(bad):
    X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32) + 1.0
    X[4] = bad
    result = FLTrust().aggregate(X)
    assert np.isfinite(result).all()
    assert np.linalg.norm(result) <= np.linalg.norm(X[0]) * 1.001


def test_bad_arguments_are_refused():
    with pytest.raises(ToleranceError, match="finite"):
        FLTrust().aggregate([np.full(2, np.nan), np.ones(2)])
    with pytest.raises(ToleranceError, match="n=1"):
        FLTrust().aggregate([np.ones(2)])
    with pytest.raises(ValueError, match="reference_index=2, n=2"):
        FLTrust(reference_index=2).aggregate([np.ones(2), np.ones(2)])


@pytest.mark.parametrize("d", [7, 9000])
@pytest.mark.parametrize("short", [1e-2, 1e-5, 1e-8])
def test_short_float32_rows_are_weighed_by_their_true_angle(d, short):
    rng = np.random.default_rng(0)
    X = 3.0 + rng.normal(size=(7, d))
    X[3], X[5] = short * rng.normal(size=d), short * X[0]
    X = X.astype(np.float32)
    expected = slow(X[0].astype(np.float64), X[1:].astype(np.float64))
    np.testing.assert_allclose(FLTrust().aggregate(X), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-40, 1e-20])
def test_rows_of_next_to_nothing_agree_with_nothing(size):
    X = (3.0 + np.random.default_rng(0).normal(size=(7, 50))).astype(np.float32)
    X[3] = size
    np.testing.assert_allclose(FLTrust().aggregate(X), FLTrust().aggregate(np.delete(X, 3, 0)), rtol=1e-5)
