"""Every row of the case table against every law that the package ships."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from byzflow.attacks.base import Attack
from byzflow.operators.columnwise import ColumnwiseOperator
from byzflow.testing import (
    CHECKS,
    HOSTILE,
    assert_close,
    assert_finite,
    assert_same,
    hostile_rows,
    rows,
    run_eager,
)
from byzflow.testing.compare import size_of
from byzflow.testing.vectors import as_float64, cast, sizes
from tests.cases import CASES

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@by_case
def test_operator_obeys(case, check):
    check(case.make(), replace(case.laws, reference=case.expected()))


@by_case
def test_cluster_gives_the_bits_of_the_eager_call(case, cluster_path):
    op, n = case.make(), case.laws.n
    for kind in ("torch-float32", "array-api-strict"):
        vectors = cast(rows(n, sizes(n)[-1]), kind)
        assert_same(cluster_path(op, vectors), run_eager(op, vectors), f"{case.name} on a cluster, {kind}")
    if case.laws.hostile:
        vectors = cast(hostile_rows(n, sizes(n)[-1], "mixed"), "numpy-float64")
        assert_same(
            cluster_path(op, vectors), run_eager(op, vectors), f"{case.name}, hostile rows on a cluster"
        )


@pytest.mark.parametrize("where", [(0, 1), (9, 10), (0, 10)], ids=str)
@by_case
def test_hostile_rows_anywhere_leave_the_result_finite(case, where):
    if not case.laws.hostile:
        return
    op, n = case.make(), case.laws.n
    for kind in HOSTILE:
        X = hostile_rows(n, 7, kind, where=where, seed=3)
        got = run_eager(op, cast(X, "torch-float32"))
        assert_finite(got, f"{case.name}, rows {where} {kind}")


@pytest.mark.parametrize("far", [4e150, 4e153, 1e200], ids=str)
@by_case
def test_rows_too_far_to_square_count_as_infinite(case, far):
    op, X = case.make(), rows(case.laws.n, 7)
    measured = not isinstance(op, (ColumnwiseOperator, Attack)) and not getattr(op, "optimistic", False)
    if not (case.laws.hostile and measured):
        return
    X[1], X[-2] = far, -far
    there = run_eager(op, list(X))
    X[1], X[-2] = np.inf, -np.inf
    assert_same(there, run_eager(op, list(X)), f"{case.name}, two rows at {far:g}")


@pytest.mark.parametrize("n", [4, 5, 8, 12])
@by_case
def test_definition_holds_for_other_numbers_of_rows(case, n):
    if n < case.smallest:
        return
    X = rows(n, 9, seed=n)
    got = run_eager(case.make(n), list(X))
    if case.definition is not None:
        expected = case.expected(n)(X)
        assert_close(got, expected, f"{case.name}, n={n}", tolerance=case.laws.tolerance, size=size_of(X))


@pytest.mark.parametrize("factor", [2.0**-80, 2.0**70], ids=str)
@by_case
def test_float32_rows_whose_squares_leave_float32_are_rows_like_others(case, factor):
    if not case.laws.scales:
        return
    op, X = case.make(), rows(case.laws.n, 501)
    got = as_float64(run_eager(op, cast(X * factor, "numpy-float32"))) / factor
    expected = as_float64(run_eager(op, cast(X, "numpy-float32")))
    tolerance = 1e5 * case.laws.tolerance
    assert_close(got, expected, f"{case.name} times {factor}", tolerance=tolerance, size=size_of(X))


@by_case
def test_what_is_no_vector_is_named_by_its_kind(case):
    op, n = case.make(), case.laws.n
    for bad in (None, (x for x in rows(n, 3))):
        if not isinstance(op, Attack):
            with pytest.raises(TypeError, match=f"got {type(bad).__name__}"):
                run_eager(op, bad)
    if n > 1:
        with pytest.raises(TypeError, match="array of real numbers; got NoneType"):
            run_eager(op, [*rows(n - 1, 3), None])
