"""Every row of the case table with options it has to refuse, and with very few rows."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

from byzflow.aggregators.average import Average
from byzflow.aggregators.geometric_wise import DivideAndConquer, SmoothedGeometricMedian
from byzflow.aggregators.norm_wise import FilterL2
from byzflow.attacks import OptimalEmpire, OptimalLittle
from byzflow.attacks.base import Attack
from byzflow.exceptions import ToleranceError
from byzflow.testing import assert_close, rows, run_eager
from tests.cases import CASES

CHUNKS = [(case, name) for case in CASES for name in case.option_names() if name.endswith("chunk_size")]
OPTIONS = [(case, name) for case in CASES if not case.variant for name in case.option_names()]
WITH_F = [case for case in CASES if "f" in case.options(case.laws.n) and not case.fixed]


def ident(value):
    return getattr(value, "name", str(value))


def kind(value):
    return type(value).__name__


@pytest.mark.parametrize("bad", [0, -1])
@pytest.mark.parametrize(("case", "name"), CHUNKS, ids=ident)
def test_chunk_size_must_be_positive(case, name, bad):
    with pytest.raises(ValueError, match=name):
        case.rule_class()(**{**case.options(case.laws.n), name: bad})


@pytest.mark.parametrize("bad", [object(), "nonsense", np.ones(2), 1j, np.nan, 10**400], ids=kind)
@pytest.mark.parametrize(("case", "name"), OPTIONS, ids=ident)
def test_options_of_no_sense_are_taken_or_refused_by_name(case, name, bad):
    options = {**case.options(case.laws.n), name: bad}
    try:
        case.rule_class()(**options)
    except (TypeError, ValueError) as error:
        assert re.match(rf".*\b{name} .*; got .*\. [A-Z].*\.$", str(error))  # noqa: PT017  # not all are refused
        assert "-inf" not in str(error)  # noqa: PT017  # which nobody can fall short of


@pytest.mark.parametrize(("case", "name"), OPTIONS, ids=ident)
def test_none_is_refused_where_it_is_no_default(case, name):
    rule = case.rule_class()
    if inspect.signature(rule).parameters[name].default is None:
        return
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
        rule(**{**case.options(case.laws.n), name: None})


@pytest.mark.parametrize("case", WITH_F, ids=ident)
def test_f_must_not_be_negative(case):
    with pytest.raises(ValueError, match="f must be at least"):
        case.rule_class()(**{**case.options(case.laws.n), "f": -1})


@pytest.mark.parametrize("bad", ["2", None, 1.5], ids=str)
@pytest.mark.parametrize("case", WITH_F, ids=ident)
def test_f_must_be_a_whole_number(case, bad):
    with pytest.raises(TypeError, match="f must be a whole number"):
        case.rule_class()(**{**case.options(case.laws.n), "f": bad})


@pytest.mark.parametrize("case", [c for c in WITH_F if not issubclass(c.rule_class(), Attack)], ids=ident)
def test_f_beyond_tolerance_is_refused_before_the_rows_are_touched(case):
    n = case.laws.n
    op = case.rule_class()(**{**case.options(n), "f": n + 1})
    poison = [np.full(3, np.nan)] * n
    with pytest.raises(
        ToleranceError, match=rf"(?s){case.rule_class().__name__}.*needs.*got.*f={n + 1}.*n={n}"
    ):
        run_eager(op, poison)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("case", CASES, ids=ident)
def test_few_rows_give_the_definition_or_a_tolerance_error(case, n):
    if case.fixed or case.definition is None or case.smallest > 4:
        return
    options = dict(case.options(max(n, 4)))
    least = int(issubclass(case.rule_class(), Attack))  # nobody attacks without a Byzantine node
    options |= {
        key: value
        for key, value in {"f": least, "q": 1, "epsilon": 0, "reference_index": 0}.items()
        if key in options
    }
    options |= {"perm": range(n)} if "perm" in options else {}
    X = rows(n, 5)
    try:
        got = run_eager(case.rule_class()(**options), list(X))
    except ToleranceError:
        return  # a refusal; how it is worded is tested above
    expected = case.definition(
        X, **{key: value for key, value in options.items() if key not in case.only_rule}
    )
    assert_close(got, expected, f"{case.name}, n={n}", tolerance=case.laws.tolerance, size=5.0)


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (DivideAndConquer, "c"),
        (SmoothedGeometricMedian, "nu"),
        (OptimalLittle, "reach"),
        (OptimalEmpire, "reach"),
    ],
)
def test_factors_without_a_limit_are_refused(rule, name):
    given = {"f": 1} if rule is DivideAndConquer else {"f": 1, "aggregator": Average()}
    with pytest.raises(ValueError, match=f"{name} must be finite; got inf"):
        rule(**({} if rule is SmoothedGeometricMedian else given), **{name: float("inf")})


def test_a_bound_beyond_all_numbers_lets_everything_pass():
    X = rows(5, 3)
    np.testing.assert_allclose(FilterL2(sigma=1e200).aggregate(list(X)), X.mean(axis=0))
