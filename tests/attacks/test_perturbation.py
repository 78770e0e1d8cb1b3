"""Min-max and min-sum: the vector is as far out as its bound allows, and no farther."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.attacks import MinMaxAttack, MinSumAttack

DIRECTIONS = ("std", "sign", "unit")


def direction_of(X, name):
    mean = X.mean(0)
    return {"std": X.std(0), "sign": np.sign(mean), "unit": mean / np.linalg.norm(mean)}[name]


def max_distance(X, a):
    return max(((x - a) ** 2).sum() for x in X)


def sum_of_distances(X, a):
    return ((X - a) ** 2).sum()


@pytest.mark.parametrize(
    ("attack", "measure"), [(MinMaxAttack, max_distance), (MinSumAttack, sum_of_distances)]
)
@pytest.mark.parametrize("name", DIRECTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_bound_is_met_with_equality(attack, measure, name, seed):
    X = 1.0 + np.random.default_rng(seed).normal(size=(6, 40))
    sent = attack(name).apply(honest_grads=list(X))
    bound = max(measure(X, x) for x in X)
    assert measure(X, sent) == pytest.approx(bound, rel=1e-12)
    step = (X.mean(0) - sent) / direction_of(X, name)
    np.testing.assert_allclose(step, step[0], rtol=1e-9)
    assert step[0] > 0.0


@pytest.mark.parametrize("attack", [MinMaxAttack, MinSumAttack])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_identical_rows_leave_no_room(attack, name):
    X = np.full((4, 3), 2.0)
    assert attack(name).apply(honest_grads=list(X)).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("attack", [MinMaxAttack, MinSumAttack])
def test_row_that_is_not_finite_does_not_bound_the_step(attack):
    X = np.random.default_rng(0).normal(size=(5, 3))
    dead = X[0].copy()
    dead[0] = np.nan
    sent = attack("unit").apply(honest_grads=[*X, dead])
    assert np.isfinite(sent).all()


def test_unknown_direction_is_refused():
    with pytest.raises(ValueError, match="direction"):
        MinMaxAttack("up")


@pytest.mark.parametrize("name", DIRECTIONS)
@pytest.mark.parametrize("attack", [MinMaxAttack, MinSumAttack])
@pytest.mark.parametrize("factor", [2.0**-400, 2.0**400])
def test_scaled_rows_scale_the_vector_wherever_squares_are_numbers(attack, name, factor):
    X = np.random.default_rng(8).normal(size=(7, 5)) + 0.4
    got = attack(name).apply(honest_grads=list(factor * X))
    np.testing.assert_allclose(got / factor, attack(name).apply(honest_grads=list(X)), rtol=1e-9)


@pytest.mark.parametrize("name", DIRECTIONS)
@pytest.mark.parametrize(
    ("attack", "measure"), [(MinMaxAttack, max_distance), (MinSumAttack, sum_of_distances)]
)
def test_bound_is_met_where_a_row_counts_in_the_mean_only(attack, measure, name):
    X = np.random.default_rng(9).normal(size=(6, 4)) + 0.4
    torn = 3.0 * X[0]
    torn[2] = np.nan
    sent = attack(name).apply(honest_grads=[*X, torn])
    bound = max(measure(X, x) for x in X)
    assert measure(X, sent) == pytest.approx(bound, rel=1e-9)
