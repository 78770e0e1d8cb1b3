"""The law about states: what a rule carries from round to round is all in what `step` returns."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

from byzflow.aggregators.base import StatefulAggregator
from byzflow.attacks.base import StatefulAttack
from byzflow.operators.base import Operator
from byzflow.testing.compare import assert_same
from byzflow.testing.laws import Laws
from byzflow.testing.paths import inputs_of, run_eager
from byzflow.testing.vectors import cast, rows

__all__ = ("check_states",)


def check_states(op: Operator, laws: Laws) -> None:
    """A first step is the plain call, and later ones follow from their state, which they leave alone."""
    if not isinstance(op, StatefulAggregator | StatefulAttack):
        return
    for kind in ("numpy-float64", "torch-float32"):
        first, then = (cast(rows(laws.n, 7, seed=seed), kind) for seed in (0, 1))
        got, state = _step(op, first, None)
        assert_same(got, run_eager(op, first), f"{kind}, first step")
        copy = pickle.loads(pickle.dumps(state))
        expected, after = _step(op, then, state)
        _assert_same_state(state, copy, f"{kind}, state passed in")
        got, again = _step(op, then, copy)
        assert_same(got, expected, f"{kind}, step from a pickled state")
        _assert_same_state(again, after, f"{kind}, state after it")


def _step(op: StatefulAggregator | StatefulAttack, vectors: Any, state: Any) -> tuple[Any, Any]:
    if isinstance(op, StatefulAttack):
        sent, after = op.step(state, **inputs_of(op, vectors))
    else:
        sent, after = op.step(vectors, state)
    if not isinstance(after, Mapping) or not all(hasattr(value, "dtype") for value in after.values()):
        raise AssertionError("the state: needs a mapping of names to arrays; got something else.")
    return sent, after


def _assert_same_state(got: Any, expected: Any, claim: str) -> None:
    if got.keys() != expected.keys():
        raise AssertionError(f"{claim}: needs {sorted(expected)}; got {sorted(got)}.")
    for name, value in expected.items():
        assert_same(got[name], value, f"{claim}, {name}")
