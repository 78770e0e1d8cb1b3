"""A list of dask arrays is one lazy input, as their stack is."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.aggregators.norm_wise import FoolsGold, SignGuard
from byzflow.aggregators.pipeline import Pipeline
from byzflow.attacks import EmpireAttack, MinMaxAttack, OptimalLittle, RandomAttack
from byzflow.pre_aggregators import NearestNeighborMixing
from byzflow.testing.paths import run_eager
from byzflow.testing.vectors import as_float64, rows

RULES = (
    CoordinateWiseMedian(),
    MultiKrum(2, 3),
    SignGuard(),
    FoolsGold(),
    NearestNeighborMixing(2),
    Pipeline((NearestNeighborMixing(2),), CoordinateWiseMedian()),
    EmpireAttack(),
    RandomAttack(seed=1),
    MinMaxAttack(),
    OptimalLittle(2, CoordinateWiseMedian()),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_list_of_dask_arrays_gives_a_lazy_answer_with_the_eager_bits(rule):
    X = rows(11, 30)
    lazy = run_eager(rule, [da.from_array(row, chunks=7) for row in X])
    assert isinstance(lazy, da.Array)
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), as_float64(run_eager(rule, X)))
