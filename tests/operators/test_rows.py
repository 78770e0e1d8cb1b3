"""What the drivers promise: the same bits wherever a rule runs."""

from __future__ import annotations

import array_api_strict as xp
import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from byzflow.aggregators.base import ColumnwiseAggregator, LinearAggregator
from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.geometric_wise import DivideAndConquer, GeometricMedian, MultiKrum
from byzflow.aggregators.norm_wise import CAF, CenteredClipping
from byzflow.attacks import EmpireAttack
from byzflow.operators.compose import compose
from byzflow.operators.rows import RowOperator
from byzflow.pre_aggregators import Clipping, NearestNeighborMixing

RULES = (
    MultiKrum(f=40, q=30),
    GeometricMedian(),
    NearestNeighborMixing(f=40),
    CenteredClipping(c_tau=1.0),
    CAF(f=40),
    DivideAndConquer(f=40, seed=0),
    compose((Clipping(5.0), NearestNeighborMixing(f=40), GeometricMedian())),
)


@pytest.fixture
def blas_threads():
    """Set the threads of every BLAS in the process."""
    before = torch.get_num_threads()

    def of(threads):
        torch.set_num_threads(threads)
        return threadpool_limits(threads, user_api="blas")

    yield of
    torch.set_num_threads(before)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_the_bits_do_not_depend_on_the_threads_of_blas(rule: RowOperator, blas_threads):
    X = np.random.default_rng(0).normal(size=(200, 300)).astype(np.float32)
    answers = []
    for threads in (1, 2):
        with blas_threads(threads):
            answers.append(np.stack(rule.run_rows(X)))
    np.testing.assert_array_equal(*answers)


def test_a_rule_that_looks_at_nothing_cannot_change_what_others_are_given():
    class Scribbler(LinearAggregator):
        uses = frozenset()

        def weights(self, geometry):
            geometry.finite[0] = False
            return np.full(geometry.n, 1.0 / geometry.n)

    with pytest.raises(ValueError, match="read-only"):
        Scribbler().aggregate([np.zeros(2), np.full(2, 4.0)])
    assert EmpireAttack().apply(honest_grads=[np.zeros(2), np.full(2, 4.0)]).tolist() == [-2.0, -2.0]


class Trusting(LinearAggregator):
    """A rule that does not ask which rows are finite."""

    def weights(self, geometry):
        return np.full(geometry.n, 1.0 / geometry.n)


def test_a_weight_for_a_row_that_is_not_finite_is_refused():
    assert Trusting().aggregate([np.ones(2), np.full(2, 3.0)]).tolist() == [2.0, 2.0]
    with pytest.raises(ValueError, match=r"Trusting\.weights must return 0 .* for one of n=2\. "):
        Trusting().aggregate([np.ones(2), np.array([0.0, np.nan])])


class Everything(ColumnwiseAggregator):
    """A rule of the wrong shape: all rows."""

    def columns(self, X):
        return X


class Converted(ColumnwiseAggregator):
    """A rule of the wrong library: NumPy's median, whatever came."""

    def columns(self, X):
        return np.asarray(X).max(axis=0)


def test_columns_of_the_wrong_shape_are_named_also_where_n_is_d():
    with pytest.raises(ValueError, match=r"Everything\.columns .* each of 3 columns; got shape \(3, 3\)"):
        Everything().aggregate([np.ones(3)] * 3)


def test_columns_of_another_library_are_named():
    with pytest.raises(TypeError, match="an array of X's library, array_api_strict; got one of numpy"):
        Converted().aggregate([xp.ones(3)] * 3)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (3, 1), (40_000, 1), (3, 20_000)])
@pytest.mark.parametrize("kind", [list, lambda stacked: stacked], ids=["list", "stacked"])
def test_tensors_that_are_minus_what_lies_in_memory_count_as_what_they_say(n, d, kind):
    z = torch.randn(n, d, dtype=torch.complex64)
    got, expected = (CoordinateWiseMedian().aggregate(kind(rows)) for rows in (z.conj().imag, -z.imag))
    assert torch.equal(got, expected)
