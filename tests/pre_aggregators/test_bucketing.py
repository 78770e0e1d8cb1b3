"""Bucketing: orders given and drawn."""

from __future__ import annotations

import random

import array_api_strict
import numpy as np
import pytest

from byzflow.kernels.native import shuffled
from byzflow.kernels.noise import fresh_key
from byzflow.pre_aggregators.bucketing import Bucketing


def column(*values):
    return [np.array([v]) for v in values]


def flat(rows):
    return [float(row[0]) for row in rows]


def test_position_j_takes_row_perm_j():
    assert flat(Bucketing(2, perm=[4, 0, 3, 1, 2]).pre_aggregate(column(0.0, 1, 2, 3, 4))) == [2.0, 2.0, 2.0]


def test_the_last_bucket_may_be_smaller():
    assert flat(Bucketing(2, perm=range(3)).pre_aggregate(column(0.0, 2.0, 7.0))) == [1.0, 7.0]


def test_a_bucket_larger_than_n_gives_the_mean():
    assert flat(Bucketing(9).pre_aggregate(column(0.0, 2.0, 7.0))) == [3.0]


def test_a_generator_of_the_standard_library_draws_the_order():
    rows = column(*map(float, range(7)))
    order = list(range(7))
    random.Random(3).shuffle(order)
    expected = flat(Bucketing(2, perm=order).pre_aggregate(rows))
    assert flat(Bucketing(2, rng=random.Random(3)).pre_aggregate(rows)) == expected


def test_fresh_orders_differ_between_calls():
    rows = column(*map(float, range(50)))
    assert flat(Bucketing(1).pre_aggregate(rows)) != flat(Bucketing(1).pre_aggregate(rows))


def test_rows_that_are_not_finite_are_left_out_of_their_bucket():
    rows = column(1.0, np.nan, 3.0, 5.0, np.inf, -np.inf)
    assert flat(Bucketing(2, perm=range(6)).pre_aggregate(rows)) == [1.0, 4.0, 0.0]


@pytest.mark.parametrize("perm", [[0, 1], [0, 1, 1], [1, 2, 3]])
def test_a_perm_that_is_none_is_refused(perm):
    with pytest.raises(ValueError, match="permutation of range"):
        Bucketing(2, perm=perm).pre_aggregate(column(0.0, 1.0, 2.0))


def test_a_bucket_size_of_zero_is_refused():
    with pytest.raises(ValueError, match="bucket_size"):
        Bucketing(0)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_row_is_in_one_bucket_in_the_order_of_perm(size):
    perm, X = [5, 2, 0, 6, 3, 1, 4], np.random.default_rng(0).normal(size=(7, 40))
    found = np.array(Bucketing(size, perm=perm).pre_aggregate(list(X)))
    expected = [X[perm[lo : lo + size]].mean(axis=0) for lo in range(0, 7, size)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    strict = [array_api_strict.asarray(x) for x in X]
    np.testing.assert_allclose(
        [np.asarray(x) for x in Bucketing(size, perm=perm).pre_aggregate(strict)], expected, rtol=1e-12
    )


def test_the_order_in_a_bucket_is_of_no_account():
    X = list(np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32))
    one, other = (Bucketing(3, perm=perm).pre_aggregate(X) for perm in (range(6), [1, 2, 0, 5, 4, 3]))
    np.testing.assert_array_equal(one, other)


def test_fresh_orders_are_fair():
    counts = np.zeros((5, 5))
    for _ in range(2000):
        counts[np.arange(5), shuffled(fresh_key(), 5)] += 1
    assert np.abs(counts - 400).max() < 6 * np.sqrt(400 * 0.8)
