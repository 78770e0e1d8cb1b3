"""ROP: where the point lies, and that the perturbation stays the same from round to round."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.aggregators.norm_wise import CenteredClipping
from byzflow.attacks import ROPAttack
from byzflow.exceptions import ToleranceError


def honest_rows(seed, h=8, d=50):
    return list(1.0 + 0.2 * np.random.default_rng(seed).normal(size=(h, d)))


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 180.0])
@pytest.mark.parametrize("relocation", [0.0, 0.4, 1.0])
def test_point_has_the_length_and_angle_that_were_asked_for(angle, relocation):
    attack = ROPAttack(z=2.5, relocation=relocation, angle=angle)
    _, state = attack.step(None, honest_grads=honest_rows(0))
    np.testing.assert_allclose(state["momentum"], np.mean(honest_rows(0), axis=0))
    sent, _ = attack.step(state, honest_grads=honest_rows(1))
    r = relocation * state["momentum"] + (1.0 - relocation) * np.mean(honest_rows(1), axis=0)
    moved = sent - r
    assert np.linalg.norm(moved) == pytest.approx(2.5)
    cosine = moved @ r / np.linalg.norm(moved) / np.linalg.norm(r)
    assert cosine == pytest.approx(np.cos(np.radians(angle)), abs=1e-9)


def test_angle_is_measured_from_the_reference():
    attack = ROPAttack(z=2.5, relocation=1.0, reference=0.3, angle=30.0)
    _, state = attack.step(None, honest_grads=honest_rows(0))
    sent, _ = attack.step(state, honest_grads=honest_rows(1))
    moved = sent - state["momentum"]
    r = 0.3 * state["momentum"] + 0.7 * np.mean(honest_rows(1), axis=0)
    assert np.linalg.norm(moved) == pytest.approx(2.5)
    assert moved @ r / np.linalg.norm(r) / 2.5 == pytest.approx(np.cos(np.radians(30.0)))


def test_perturbations_of_two_rounds_point_the_same_way():
    attack = ROPAttack()
    first, state = attack.step(None, honest_grads=honest_rows(0))
    second, _ = attack.step(state, honest_grads=honest_rows(1))
    a = first - np.mean(honest_rows(0), axis=0)
    b = second - 0.9 * state["momentum"] - 0.1 * np.mean(honest_rows(1), axis=0)
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.95


def test_clipping_centre_is_moved_by_what_it_cannot_see():
    attack, centre, state = ROPAttack(z=0.5), None, None
    for seed in range(10):
        honest = honest_rows(seed)
        sent, state = attack.step(state, honest_grads=honest)
        centre = CenteredClipping(c_tau=2.0, M=1).aggregate([*honest, *[sent] * 3])
    away = centre - np.mean(honest, axis=0)
    p = sent - 0.9 * np.mean(honest_rows(8), axis=0) - 0.1 * np.mean(honest, axis=0)
    assert away @ p > 0.0


def test_origin_has_no_direction_to_turn_from():
    sent = ROPAttack(z=3.0).apply(honest_grads=[np.zeros(4)] * 2)
    assert np.linalg.norm(sent) == pytest.approx(3.0)


@pytest.mark.parametrize(
    "options", [{"z": -1.0}, {"relocation": 1.5}, {"reference": -1}, {"angle": np.nan}, {"z": np.inf}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        ROPAttack(**options)


def test_nothing_finite_is_refused():
    with pytest.raises(ToleranceError, match="ROPAttack"):
        ROPAttack().apply(honest_grads=[np.full(2, np.nan)])
