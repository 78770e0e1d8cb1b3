"""Fang's attacks: just beyond the honest values, and just what Krum still picks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
from byzflow.aggregators.geometric_wise import Krum
from byzflow.attacks import FangKrumAttack, FangTrimmedMeanAttack
from byzflow.exceptions import ToleranceError


def column(*values):
    return [np.full(500, float(v)) for v in values]


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ((1.0, 3.0), 0.5, 1.0),  # mean positive, minimum positive
        ((-1.0, 3.0), -2.0, -1.0),  # mean positive, minimum negative
        ((-1.0, -3.0), -1.0, -0.5),  # mean negative, maximum negative
        ((1.0, -3.0), 1.0, 2.0),  # mean negative, maximum positive
    ],
)
def test_values_lie_beyond_the_honest_ones_against_their_mean(values, low, high):
    sent = FangTrimmedMeanAttack(seed=1).apply(honest_grads=column(*values))
    assert low <= sent.min() < low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) < sent.max() <= high


def test_trimmed_mean_is_pushed_against_the_honest_mean():
    X = np.random.default_rng(0).normal(size=(12, 300))
    attack = [FangTrimmedMeanAttack(seed=i).apply(honest_grads=list(X)) for i in range(3)]
    moved = CoordinateWiseTrimmedMean(f=3).aggregate([*X, *attack]) - X.mean(0)
    assert (np.sign(moved) == -np.sign(X.mean(0))).mean() > 0.9


def test_values_that_are_not_finite_are_left_out():
    sent = FangTrimmedMeanAttack(seed=1).apply(honest_grads=column(1.0, 3.0, np.inf, np.nan))
    assert (sent >= 0.5).all()
    assert (sent <= 1.0).all()


def test_b_below_one_is_refused():
    with pytest.raises(ValueError, match="b must be at least 1"):
        FangTrimmedMeanAttack(b=0.5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("h", "f"), [(8, 2), (10, 4), (30, 5)])
def test_krum_picks_the_vector_and_nothing_farther(seed, h, f):
    X = 0.3 + np.random.default_rng(seed).normal(size=(h, 20))
    sent = FangKrumAttack(f=f).apply(honest_grads=list(X))
    signs = np.sign(Krum(f=f).aggregate(list(X)))
    assert np.array_equal(np.unique(np.round(-sent * signs, 12)).shape, (1,))
    assert np.array_equal(Krum(f=f).aggregate([*X, *[sent] * f]), sent)
    farther = sent * 1.001
    assert not np.array_equal(Krum(f=f).aggregate([*X, *[farther] * f]), farther)


def test_vector_is_in_the_dtype_of_the_honest_ones():
    honest = [torch.randn(7, generator=torch.Generator().manual_seed(i)).bfloat16() for i in range(5)]
    assert FangKrumAttack(f=2).apply(honest_grads=honest).dtype == torch.bfloat16


def test_as_many_liars_as_honest_vectors_are_refused():
    with pytest.raises(ToleranceError, match="f < h honest vectors; got f=3, h=3"):
        FangKrumAttack(f=3).apply(honest_grads=column(1, 2, 3))


def test_direction_is_that_of_what_krum_picks_without_the_attack():
    honest = [np.array(x) for x in ([1.0, -1.0], [1.1, -1.0], [1.0, -1.1], [0.9, -1.0], [1.0, 9.0])]
    sent = FangKrumAttack(f=1).apply(honest_grads=honest)
    assert np.array_equal(np.sign(sent), [-1.0, 1.0])  # the mean's second coordinate is positive


def test_one_neighbour_at_least_says_which_vector_krum_would_pick():
    sent = FangKrumAttack(f=2).apply(honest_grads=column(5, -1, -2))
    assert (sent > 0).all()


def test_a_vector_of_zeros_leaves_nothing_to_do():
    assert np.array_equal(FangKrumAttack(f=1).apply(honest_grads=column(0, 0, 1)), np.zeros(500))


def test_nothing_finite_leaves_nothing_to_do():
    assert np.array_equal(FangKrumAttack(f=1).apply(honest_grads=column(np.nan, np.inf)), np.zeros(500))


def test_products_too_large_for_float32_are_taken_in_float64():
    X = 1e25 * np.random.default_rng(0).normal(size=(9, 50)).astype(np.float32)
    X[3] = -3e38 * np.sign(Krum(f=2).aggregate(list(X)))
    sent = [FangKrumAttack(f=2).apply(honest_grads=list(X.astype(kind))) for kind in (np.float32, np.float64)]
    np.testing.assert_allclose(sent[0], sent[1], rtol=1e-5)
    assert np.isfinite(sent[0]).all()
    assert sent[0].any()
