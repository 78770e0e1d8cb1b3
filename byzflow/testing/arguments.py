"""The laws about what an operator accepts: shapes, containers, and errors for what it must refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from byzflow.attacks.base import Attack
from byzflow.operators.base import OpContext, Operator
from byzflow.testing.compare import assert_same
from byzflow.testing.laws import Laws
from byzflow.testing.paths import PATHS, inputs_of, run_eager
from byzflow.testing.vectors import as_float64, cast, rows

__all__ = ("check_bad_input", "check_shapes")


def check_shapes(op: Operator, laws: Laws) -> None:
    """Any rank, a tuple, one stacked array, lists of numbers and empty vectors are accepted."""
    X = rows(laws.n, 24)
    flat = as_float64(run_eager(op, list(X)))
    k = flat.shape[:-1]
    shaped = X.reshape(laws.n, 2, 3, 4)
    assert_same(as_float64(run_eager(op, list(shaped))), flat.reshape(*k, 2, 3, 4), "vectors of rank 3")
    for path, run in PATHS.items():
        got = as_float64(run(op, cast(shaped, "torch-float64")))
        assert_same(got, flat.reshape(*k, 2, 3, 4), f"torch vectors of rank 3, path {path}")
    assert_same(as_float64(run_eager(op, tuple(X))), flat, "a tuple of vectors")
    assert_same(as_float64(run_eager(op, X)), flat, "one stacked array")
    assert_same(as_float64(run_eager(op, shaped)), flat.reshape(*k, 2, 3, 4), "one stacked array of rank 4")
    assert_same(as_float64(run_eager(op, X.tolist())), flat, "lists of numbers")
    strided = np.repeat(X, 2, axis=1)[:, ::2]
    assert_same(as_float64(run_eager(op, list(strided))), flat, "vectors that are not contiguous")
    sliced = [vector[::2] for vector in cast(np.repeat(X, 2, axis=1), "torch-float64")]
    assert_same(as_float64(run_eager(op, sliced)), flat, "torch vectors that are not contiguous")
    empty = as_float64(run_eager(op, list(np.empty((laws.n, 0)))))
    assert_same(empty, np.empty((*k, 0)), "vectors of length zero")
    mixed: list[Any] = cast(X, "torch-float64")
    mixed[1:] = list(X[1:])
    assert_same(as_float64(run_eager(op, mixed)), flat, "a torch vector first, numpy vectors after it")


def check_bad_input(op: Operator, laws: Laws) -> None:
    """No vectors, unequal shapes, strings and missing inputs are refused by an error that says so."""
    context = OpContext(node_name="check")
    X = list(rows(laws.n, 5))
    if not isinstance(op, Attack):
        _refuses(lambda: run_eager(op, []), ValueError, "no vectors")
        _refuses(
            lambda: op.compute({next(iter(inputs_of(op, X))): 3.0}, context=context), TypeError, "a number"
        )
        _refuses(lambda: run_eager(op, ["abc"] * laws.n), TypeError, "strings")
    if laws.n > 1 and (not isinstance(op, Attack) or op.uses_honest_grads):
        _refuses(lambda: run_eager(op, [*X[:-1], np.zeros(4)]), ValueError, "unequal shapes")
    if inputs_of(op, X):
        _refuses(lambda: op.compute({}, context=context), KeyError, "a missing input")


def _refuses(act: Callable[[], Any], kind: type[Exception], claim: str) -> None:
    try:
        act()
    except kind as error:
        if len(str(error)) < 10:
            raise AssertionError(f"{claim}: the error must say what was required; got {error!r}.") from error
        return
    raise AssertionError(f"{claim}: needs {kind.__name__}; nothing was raised.")
