"""Every row of the case table on drawn rows: equal values, hostile entries, any number of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from byzflow.testing import PATHS, assert_close, assert_finite, assert_same, run_eager
from byzflow.testing.compare import size_of
from byzflow.testing.vectors import cast
from tests.cases import CASES, f_of

EVIL = (np.inf, -np.inf, np.nan, 1e38, -1e38, 3e38, -0.0)

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@st.composite
def shapes(draw, case):
    n = case.laws.n if case.fixed else draw(st.integers(case.smallest, 12))
    return n, draw(st.integers(1 if case.ties else 2, 6))  # on a line, medians may be a segment


def compare(case, X, claim):
    op = case.make(len(X))
    got = run_eager(op, list(X))
    if case.definition is not None:
        expected = case.expected(len(X))(X)
        assert_close(got, expected, claim, tolerance=case.laws.tolerance, size=size_of(X))
    for path, run in PATHS.items():
        assert_same(run(op, list(X)), got, f"{claim}, path {path}")
    return got


@by_case
@given(data=st.data())
def test_drawn_rows_give_what_the_definition_gives(case, data):
    n, d = data.draw(shapes(case))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    scale, offset = data.draw(st.sampled_from([1e-6, 1.0, 1e4])), data.draw(st.sampled_from([0.0, 3.0]))
    compare(case, scale * (offset + rng.normal(size=(n, d))), f"{case.name} {n}x{d}")


@by_case
@given(data=st.data())
def test_equal_values_are_ordered_as_the_definition_orders_them(case, data):
    if not case.ties:
        return
    n, d = data.draw(shapes(case))
    values = data.draw(st.lists(st.integers(-2, 2), min_size=n * d, max_size=n * d))
    compare(case, np.array(values, np.float64).reshape(n, d), f"{case.name} {n}x{d} with ties")


@by_case
@given(data=st.data())
def test_hostile_entries_are_infinitely_far(case, data):
    if not case.laws.hostile:
        return
    n, d = data.draw(shapes(case))
    X = np.random.default_rng(data.draw(st.integers(0, 10**6))).normal(size=(n, d))
    may_lie = st.sampled_from([i for i in range(n) if i not in case.trusted])
    most = min(f_of(n), getattr(case.make(n), "f", n))
    liars = data.draw(st.lists(may_lie, max_size=most, unique=True))
    for liar in liars:
        X[liar] = data.draw(st.lists(st.sampled_from(EVIL), min_size=d, max_size=d))
        assume(case.ties or X[liar].any())  # rows of zeros are at right angles to all others alike
    claim = f"{case.name} {n}x{d}, liars {liars}"
    assert_finite(compare(case, X, claim), claim)
    assert_finite(run_eager(case.make(n), cast(X, "torch-float32")), f"{claim}, float32")
