"""What a rule carries from round to round must be what it returned, and is not written to."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from byzflow.aggregators.norm_wise import ClippedClustering, FoolsGold, StatefulCenteredClipping
from byzflow.attacks import MimicLearnedAttack, ROPAttack
from byzflow.attacks.base import Attack
from byzflow.testing.vectors import rows

RULES = (
    ClippedClustering(),
    FoolsGold(),
    StatefulCenteredClipping(c_tau=1.0),
    MimicLearnedAttack(),
    ROPAttack(),
)
by_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)


def step(rule, X, state):
    return rule.step(state, honest_grads=X) if isinstance(rule, Attack) else rule.step(X, state)


@by_rule
def test_a_state_of_something_else_is_refused_by_name(rule):
    who = type(rule).__name__
    with pytest.raises(ValueError, match=rf"{who} needs a state with \w+.*; got \['loss'\]\. Pass "):
        step(rule, rows(7, 3), {"loss": np.ones(3)})
    with pytest.raises(TypeError, match=rf"{who} needs a mapping as state; got list\. Pass "):
        step(rule, rows(7, 3), [np.ones(3)])


@by_rule
def test_a_step_leaves_the_state_it_was_given_alone(rule):
    _, state = step(rule, rows(7, 3), None)
    before = {name: np.array(value, copy=True) for name, value in state.items()}
    step(rule, rows(7, 3, seed=1), state)
    for name, value in before.items():
        np.testing.assert_array_equal(np.asarray(state[name]), value)


@by_rule
def test_lazy_rounds_equal_eager_ones(rule):
    X = rows(7, 5000)
    lazy = da.from_array(X, chunks=(7, 1024))
    _, state = step(rule, lazy, None)
    got, state = step(rule, lazy + 1.0, state)
    _, expected_state = step(rule, X, None)
    expected, expected_state = step(rule, X + 1.0, expected_state)
    assert state.keys() == expected_state.keys()
    assert isinstance(got, da.Array)
    np.testing.assert_array_equal(got.compute(scheduler="synchronous"), expected)
    for name, value in expected_state.items():
        assert isinstance(state[name], da.Array)
        assert state[name].dtype == value.dtype
        np.testing.assert_array_equal(state[name].compute(scheduler="synchronous"), value)


def test_lazy_clustering_goes_on_from_an_eager_round_and_forgets_rows_that_are_not_finite():
    rule, X = ClippedClustering(), rows(7, 40)
    X[2, 5] = np.nan
    _, state = rule.step(X, None)
    got, after = rule.step(da.from_array(X, chunks=(7, 16)), state)
    expected, expected_after = rule.step(X, state)
    np.testing.assert_array_equal(got.compute(scheduler="synchronous"), expected)
    np.testing.assert_array_equal(after["norms"].compute(scheduler="synchronous"), expected_after["norms"])
