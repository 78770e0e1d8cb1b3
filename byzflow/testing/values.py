"""The laws about values: the definition in every dtype, among hostile rows, permuted, moved and scaled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from byzflow.operators.base import Operator
from byzflow.testing.compare import assert_close, assert_finite, assert_same, size_of
from byzflow.testing.laws import Laws
from byzflow.testing.paths import PATHS, run_eager
from byzflow.testing.vectors import HOSTILE, KINDS, as_float64, cast, hostile_rows, rows, sizes

__all__ = (
    "check_accuracy",
    "check_far_from_origin",
    "check_hostile_rows",
    "check_permutation",
    "check_scaling",
    "check_translation",
)


def check_accuracy(op: Operator, laws: Laws) -> None:
    """Every library and dtype comes back as it went in, with the values of the definition."""
    laws = _remembering(laws)
    for kind in KINDS:
        for d in sizes(laws.n)[: 3 if kind == "numpy-float64" else 2]:
            _compare(op, laws, rows(laws.n, d), kind, f"{kind}, d={d}")


def check_far_from_origin(op: Operator, laws: Laws) -> None:
    """Float32 rows 0.01 apart at a distance of 100 keep their digits."""
    if laws.translates:
        X = 100.0 + 0.01 * rows(laws.n, 501)
        _compare(
            op, replace(laws, tolerance=min(laws.tolerance, 1e-10) * 0.5), X, "numpy-float32", "offset 100"
        )


def check_hostile_rows(op: Operator, laws: Laws) -> None:
    """Two rows of inf, -inf, NaN or 1e38 leave the result finite, the same on every path."""
    if not laws.hostile:
        return
    laws, many = _remembering(laws), sizes(laws.n)[-1]
    for name in HOSTILE:
        for kind in ("numpy-float64", "torch-float32"):
            _withstand(op, laws, hostile_rows(laws.n, 7, name), kind, name)
    if laws.permutes:  # a rule that asks one row, such as the first of equals, must not ask these
        for where in ((0, 1), (laws.n - 2, laws.n - 1)):
            X = hostile_rows(laws.n, 7, "inf", where=where)
            _withstand(op, laws, X, "numpy-float64", f"inf in rows {where}")
    _withstand(op, laws, hostile_rows(laws.n, many, "nan", only=-1), "torch-float32", "one nan")
    undefined = replace(laws, reference=None)
    _withstand(op, undefined, hostile_rows(laws.n, many, "huge", only=-1), "torch-float32", "one huge")


def check_permutation(op: Operator, laws: Laws) -> None:
    """The order of the rows is irrelevant; rows that come out follow the order of those that went in."""
    if not laws.permutes:
        return
    X = rows(laws.n, 501)
    order = np.random.default_rng(1).permutation(laws.n)
    expected = as_float64(run_eager(op, list(X)))
    if expected.ndim == 2 and len(expected) == laws.n:
        expected = expected[order]
    _near(run_eager(op, list(X[order])), expected, laws, "permuted rows (if it must: permutes=False)", X)


def check_scaling(op: Operator, laws: Laws) -> None:
    """Scaling all rows scales the result."""
    if laws.scales:
        X = rows(laws.n, 501)
        for factor in (2.0**-20, 1024.0):
            got = as_float64(run_eager(op, list(factor * X))) / factor
            claim = f"rows times {factor:g} (if it must: scales=False)"
            _near(got, as_float64(run_eager(op, list(X))), laws, claim, X)


def check_translation(op: Operator, laws: Laws) -> None:
    """Moving all rows by c moves the result by c."""
    if laws.translates:
        X = rows(laws.n, 501)
        shift = np.random.default_rng(2).normal(size=501)
        expected = as_float64(run_eager(op, list(X))) + shift
        _near(run_eager(op, list(X + shift)), expected, laws, "moved rows (if it must: translates=False)", X)


def _withstand(op: Operator, laws: Laws, X: np.ndarray, kind: str, what: str) -> None:
    claim = f"hostile rows ({what}), {kind}, d={X.shape[1]} (if it must: hostile=False)"
    got = _compare(op, laws, X, kind, claim)
    assert_finite(got, claim)
    for path, run in PATHS.items():
        assert_same(run(op, cast(X, kind)), got, f"{claim}, path {path}")


def _remembering(laws: Laws) -> Laws:
    """Laws whose slow definition is asked once for the same rows."""
    if laws.reference is None:
        return laws
    define, known = laws.reference, list[tuple[np.ndarray, np.ndarray]]()

    def recall(X: np.ndarray) -> np.ndarray:
        for rows_seen, answer in known:
            if np.array_equal(rows_seen, X, equal_nan=True):
                return answer
        known.append((X, define(X)))
        return known[-1][1]

    return replace(laws, reference=recall)


def _compare(op: Operator, laws: Laws, X: np.ndarray, kind: str, claim: str) -> Any:
    """Run on rows of one kind and compare type and values with the definition."""
    vectors = cast(X, kind)
    got = run_eager(op, vectors)
    for out in got if isinstance(got, (list, tuple)) else [got]:
        if (
            type(out) is not type(vectors[0])
            or out.dtype != vectors[0].dtype
            or out.shape != vectors[0].shape
        ):
            raise AssertionError(
                f"{claim}: what comes out must have the type, dtype and shape of the first row."
            )
    if laws.reference is not None:
        seen = as_float64(vectors)
        tolerance = laws.tolerance * KINDS[kind][1]
        assert_close(got, laws.reference(seen), claim, tolerance=tolerance, size=size_of(seen))
    return got


def _near(got: Any, expected: np.ndarray, laws: Laws, claim: str, X: np.ndarray) -> None:
    assert_close(got, expected, claim, tolerance=10 * laws.tolerance, size=size_of(X))
