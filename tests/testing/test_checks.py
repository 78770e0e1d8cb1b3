"""The conformance suite itself: it passes what is right and names what is broken."""

from __future__ import annotations

import sys
from copy import copy

import numpy as np
import pytest
import torch

from byzflow.aggregators.base import (
    Aggregator,
    ColumnwiseAggregator,
    LinearAggregator,
    StatefulAggregator,
)
from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.attacks.base import ElementwiseAttack, LinearAttack, StatefulAttack
from byzflow.operators.base import frozen
from byzflow.testing import CHECKS, Laws, check_operator, hostile_rows
from byzflow.testing.compare import assert_close, assert_same


def lower_median(X):
    return np.sort(X, axis=0)[(len(X) - 1) // 2]


def broken(**parts):
    """A median whose named parts are replaced."""
    return type("Broken", (CoordinateWiseMedian,), parts)()


class Ours(Aggregator):
    """A user's own rule: it overrides `aggregate` and nothing else."""

    def aggregate(self, gradients):
        first = gradients[0]
        stacked = np.stack([np.asarray(g, np.float64) for g in gradients])
        flat = lower_median(stacked)
        if isinstance(first, torch.Tensor):
            return torch.from_numpy(flat).to(first.dtype)
        return flat.astype(first.dtype)


def upper_median(self, gradients):
    return np.sort(np.stack(gradients), axis=0)[len(gradients) // 2]


def in_place(self, gradients):
    gradients[0] += 1
    return CoordinateWiseMedian().aggregate(gradients)


def only_of_the_first_shard(self, partials, inputs, *, context):
    return CoordinateWiseMedian().compute(inputs, context=context) + (len(partials) > 1)


BROKEN = {
    "check_accuracy": broken(aggregate=lambda self, g: CoordinateWiseMedian().aggregate(g) * (1 + 1e-7)),
    "check_hostile_rows": broken(aggregate=lambda self, g: np.stack(list(map(np.asarray, g))).mean(axis=0)),
    "check_inputs_untouched": broken(aggregate=lambda self, g: g[0]),
    "check_paths": broken(reduce_subtasks=only_of_the_first_shard),
    "check_bad_input": broken(aggregate=lambda self, g: np.zeros(5)),
    "check_shapes": broken(aggregate=lambda self, g: CoordinateWiseMedian().aggregate(g).ravel()),
    "check_translation": broken(aggregate=lambda self, g: 2 * CoordinateWiseMedian().aggregate(g)),
    "check_permutation": broken(aggregate=lambda self, g: CoordinateWiseMedian().aggregate(g[:3])),
    "check_scaling": broken(aggregate=lambda self, g: CoordinateWiseMedian().aggregate(g) + 1),
}


class First(Aggregator):
    """The row nearest to all others, or the first of equals: that is any row beside one infinitely far."""

    def aggregate(self, gradients):
        X = np.stack([np.asarray(g, np.float64) for g in gradients])
        with np.errstate(invalid="ignore", over="ignore"):
            far = np.nan_to_num(np.square(X[:, None] - X).sum(axis=2), nan=np.inf).sum(axis=1)
        return copy(gradients[int(far.argmin())])


def test_a_rule_that_takes_an_infinite_row_for_the_nearest_is_caught():
    assert np.isfinite(First().aggregate(list(hostile_rows(11, 7, "inf")))).all()
    check = next(check for check in CHECKS if check.__name__ == "check_hostile_rows")
    with pytest.raises(AssertionError, match=r"rows \(0, 1\)"):
        check(First(), Laws())


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rule_is_caught(name):
    check = next(check for check in CHECKS if check.__name__ == name)
    with pytest.raises((AssertionError, ValueError)):
        check(BROKEN[name], Laws(reference=lower_median))


class Writes(StatefulAggregator):
    """Changes the state that it was given."""

    def step(self, gradients, state):
        median = CoordinateWiseMedian().aggregate(gradients)
        if state is not None:
            state["sum"] += median
        return median, {"sum": median}


class Remembers(StatefulAggregator):
    """Keeps the round on itself."""

    def step(self, gradients, state):
        self.rounds = getattr(self, "rounds", 0) + 1
        return CoordinateWiseMedian().aggregate(gradients) * min(self.rounds, 3), {}


class Counts(StatefulAggregator):
    """Returns a number for an array."""

    def step(self, gradients, state):
        return CoordinateWiseMedian().aggregate(gradients), {
            "rounds": 1 if state is None else state["rounds"] + 1
        }


class Warms(StatefulAttack):
    """Sends nothing in a first round, whatever a call without a state sends."""

    uses_honest_grads = True

    def apply(self, *, honest_grads=None, **others):
        return CoordinateWiseMedian().aggregate(honest_grads)

    def step(self, state, *, honest_grads):
        return CoordinateWiseMedian().aggregate(honest_grads) * (state is not None), {}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Writes, "state passed in, sum: needs the same bits"),
        (Remembers, "first step: needs the same bits"),
        (Counts, "the state: needs a mapping of names to arrays"),
        (Warms, "first step: needs the same bits"),
    ],
)
def test_a_rule_whose_state_is_not_all_passed_in_and_returned_is_caught(rule, message):
    check = next(check for check in CHECKS if check.__name__ == "check_states")
    with pytest.raises(AssertionError, match=message):
        check(rule(), Laws())


def test_even_median_must_be_the_lower_one():
    with pytest.raises(AssertionError, match="numpy-float64, d=1: needs an error of at most"):
        check_operator(broken(aggregate=upper_median), Laws(n=10, reference=lower_median))


def test_right_rule_passes():
    check_operator(CoordinateWiseMedian(), Laws(reference=lower_median))


def test_rule_of_a_user_that_is_written_in_columns_passes():
    @frozen
    class Middle(ColumnwiseAggregator):
        def columns(self, X):
            if isinstance(X, np.ndarray):
                return lower_median(X)
            import array_api_compat

            xp = array_api_compat.array_namespace(X)
            return xp.sort(X, axis=0)[(X.shape[0] - 1) // 2, :]

    for check in CHECKS:
        if check.__name__ not in (
            "check_repeatable",
            "check_subtasks_travel",
        ):  # a local class has no import path
            check(Middle(), Laws(reference=lower_median))


class Flip(ElementwiseAttack):
    uses_base_grad = True

    def elements(self, x, span):
        return -x


def test_an_attack_that_reads_a_single_vector_is_not_asked_about_others():
    check_operator(Flip(), Laws(permutes=False, translates=False))
    with pytest.raises(AssertionError, match=r"hostile rows .* \(if it must: hostile=False\)"):
        check_operator(Flip(), Laws(translates=False))


def test_errors_say_by_how_much():
    with pytest.raises(
        AssertionError, match=r"sums: needs the same bits; 1 of 2 values differ, by up to 0\.5"
    ):
        assert_same(np.array([1.0, 2.5]), np.array([1.0, 2.0]), "sums")
    with pytest.raises(AssertionError, match="sums: needs an error of at most 1e-09"):
        assert_close(np.ones(2), np.zeros(2), "sums", tolerance=1e-9, size=1.0)
    with pytest.raises(AssertionError, match="needs ndarray float64"):
        assert_same(np.ones(2, np.float32), np.ones(2), "dtype")


def made(base, **methods):
    return type("Mine", (base,), methods)()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            made(LinearAggregator, weights=lambda self, g: np.ones(3)),
            r"weights must return .*got shape \(3,\)",
        ),
        (made(LinearAggregator, weights=lambda self, g: np.ones((2, g.n))), r"weights .*got shape \(2, 11\)"),
        (made(LinearAggregator, weights=lambda self, g: None), r"weights must return .*got shape \(\)"),
        (
            made(ColumnwiseAggregator, columns=lambda self, X: X[0, 0]),
            r"columns must return .*got shape \(\)",
        ),
        (made(LinearAttack, weights=lambda self, g: np.ones(g.n)), r"needs either uses_honest_grads or"),
    ],
    ids=["weights-of-others", "two-rows", "nothing", "one-number", "no-input"],
)
def test_mistakes_in_a_new_rule_are_named(rule, message):
    with pytest.raises((TypeError, ValueError), match=rf"Mine.*{message}.*\. [A-Z]"):
        check_operator(rule)


def test_errors_of_the_rule_itself_say_which_law_was_looked_at():
    rule = made(Aggregator, aggregate=lambda self, gradients: sum(gradients) / len(gradients))
    with pytest.raises(ZeroDivisionError) as caught:
        check_operator(rule, Laws(hostile=False))
    (note,) = caught.value.__notes__
    assert note.startswith("The law that Mine broke: No vectors, unequal shapes")


def test_a_missing_package_is_no_broken_law(monkeypatch):
    monkeypatch.setitem(sys.modules, "array_api_strict", None)
    with pytest.raises(ImportError, match=r"byzflow\[testing\]") as caught:
        check_operator(CoordinateWiseMedian())
    assert not hasattr(caught.value, "__notes__")
