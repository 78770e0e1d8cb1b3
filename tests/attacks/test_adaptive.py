"""The adaptive attacks: the search, and that the Gram matrix foretells what the live pipeline does."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np
import pytest
import torch

from byzflow.aggregators.average import Average
from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian, CoordinateWiseTrimmedMean
from byzflow.aggregators.geometric_wise import GeometricMedian, Krum, MoNNA, MultiKrum
from byzflow.aggregators.norm_wise import CenteredClipping, ComparativeGradientElimination
from byzflow.aggregators.pipeline import Pipeline
from byzflow.attacks import EmpireAttack, LittleAttack, OptimalEmpire, OptimalLittle
from byzflow.attacks.adaptive import linear_rule
from byzflow.attacks.line_search import line_search
from byzflow.exceptions import ToleranceError
from byzflow.pre_aggregators import ARC, Bucketing, Clipping, NearestNeighborMixing

F = 3
HONEST = [1.0 + 0.5 * row for row in np.random.default_rng(0).normal(size=(10, 40))]
PIPELINES = [
    ((), Average()),
    ((), Krum(f=F)),
    ((), MultiKrum(f=F, q=4)),
    ((), ComparativeGradientElimination(f=F)),
    ((), MoNNA(f=F, reference_index=2)),
    ((), GeometricMedian(init="mean")),
    ((), GeometricMedian()),
    ((), CenteredClipping(c_tau=1.0, M=3)),
    ((NearestNeighborMixing(f=F),), MultiKrum(f=F, q=4)),
    ((Clipping(2.0), ARC(f=F), Bucketing(2, perm=range(13)), NearestNeighborMixing(f=1)), Krum(f=1)),
]


def damage(attack, sent):
    vectors = [*HONEST, *[sent] * F]
    for part in attack.pre_aggregators:
        vectors = part.pre_aggregate(vectors)
    return float(((attack.aggregator.aggregate(vectors) - np.mean(HONEST, axis=0)) ** 2).sum())


@pytest.mark.parametrize("make", [OptimalLittle, OptimalEmpire])
@pytest.mark.parametrize(("before", "last"), PIPELINES, ids=lambda v: type(v).__name__)
def test_gram_matrix_foretells_the_live_pipeline(make, before, last):
    attack = make(F, last, before)
    rule = linear_rule((*before, last))
    assert rule is not None
    foretold, live = attack._on_gram(HONEST, rule), attack._live(HONEST)
    for t in (0.0, 0.3, 1.7, 10.0):
        assert foretold(t) == pytest.approx(live(t), rel=1e-9, abs=1e-12)
        assert live(t) == pytest.approx(damage(attack, attack.vector(HONEST, t)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "rule", [CoordinateWiseMedian(), CoordinateWiseTrimmedMean(f=F), MultiKrum(f=F, q=4)]
)
@pytest.mark.parametrize(
    ("make", "fixed"), [(OptimalLittle, LittleAttack(f=F)), (OptimalEmpire, EmpireAttack(-1.0))]
)
def test_found_vector_harms_more_than_a_fixed_one(rule, make, fixed):
    attack = make(F, rule)
    found = damage(attack, attack.apply(honest_grads=HONEST))
    assert found >= damage(attack, fixed.apply(honest_grads=HONEST))


def test_median_start_and_columnwise_rules_are_tried_live():
    assert linear_rule((CenteredClipping(c_tau=1.0, init="median"),)) is None
    assert linear_rule((NearestNeighborMixing(f=F), CoordinateWiseMedian())) is None


def test_pipeline_object_is_the_same_as_its_parts():
    parts = OptimalLittle(F, MultiKrum(f=F, q=4), (NearestNeighborMixing(f=F),))
    whole = OptimalLittle(F, Pipeline((NearestNeighborMixing(f=F),), MultiKrum(f=F, q=4)))
    assert np.array_equal(parts.apply(honest_grads=HONEST), whole.apply(honest_grads=HONEST))


def test_family_of_little_keeps_its_digits_far_from_the_origin():
    honest = [torch.tensor(100.0 + 0.01 * row, dtype=torch.float32) for row in HONEST]
    attack = OptimalLittle(F, Krum(f=F))
    exact = OptimalLittle(F, Krum(f=F)).apply(honest_grads=[h.double() for h in honest])
    torch.testing.assert_close(attack.apply(honest_grads=honest).double(), exact, rtol=0, atol=1e-5)


def test_rule_that_cannot_take_so_many_is_refused():
    with pytest.raises(ToleranceError):
        OptimalEmpire(3, Krum(f=5)).apply(honest_grads=HONEST[:3])


@pytest.mark.parametrize("make", [OptimalLittle, OptimalEmpire])
@pytest.mark.parametrize("none", [[], np.zeros((0, 3)), da.zeros((0, 3))], ids=["list", "array", "lazy"])
def test_an_attack_on_no_vectors_names_itself_and_what_is_missing(make, none):
    with pytest.raises(ValueError, match=rf"{make.__name__} needs honest_grads with at least one vector"):
        make(1, Krum(f=1), (NearestNeighborMixing(f=1),)).apply(honest_grads=none)


@pytest.mark.parametrize(
    "options", [{"aggregator": 3}, {"aggregator": Average(), "pre_aggregators": [Average()]}]
)
def test_pipelines_of_the_wrong_parts_are_refused(options):
    with pytest.raises(TypeError, match="aggregator"):
        OptimalLittle(1, **options)


@pytest.mark.parametrize("make", [Pipeline, lambda before, last: OptimalLittle(1, last, before)])
def test_a_class_in_place_of_a_rule_is_refused_with_what_to_write(make):
    with pytest.raises(TypeError, match=r"got the class Average\. Make one: Average\(\.\.\.\)\."):
        make((), Average)
    with pytest.raises(TypeError, match=r"got the class NearestNeighborMixing\. Make one"):
        make((NearestNeighborMixing,), Average())


def test_search_spends_its_evaluations_and_no_more():
    seen = []

    def objective(x):
        seen.append(x)
        return -((x - 4.0) ** 2)

    best = line_search(objective, evaluations=20)
    assert len(seen) == 20
    assert min(seen) >= 0.0
    assert best == pytest.approx(4.0, abs=0.3)


def test_search_goes_on_doubling_while_it_helps():
    assert line_search(lambda x: x, evaluations=6) == 40.0


def test_search_finds_the_hill_below_a_plateau():
    best = line_search(lambda x: x if x < 0.7 else 0.01)
    assert 0.6 < best < 0.7


def test_search_that_nothing_helps_stays_at_zero():
    assert line_search(lambda x: -x) == 0.0


@pytest.mark.parametrize("evaluations", [1, 2, 3])
def test_search_with_few_evaluations_keeps_to_them(evaluations):
    seen = []
    line_search(lambda x: seen.append(x) or x, evaluations=evaluations)
    assert len(seen) == evaluations


def test_search_takes_nan_for_a_victory():
    assert line_search(lambda x: math.nan if x > 5.0 else x, evaluations=5) == 10.0
