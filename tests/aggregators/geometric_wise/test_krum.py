"""Krum and Multi-Krum against scores computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.aggregators.geometric_wise.krum import Krum, MultiKrum, krum_scores
from byzflow.exceptions import ToleranceError


def column(*values):
    return [np.array([v]) for v in values]


def test_scores_sum_the_nearest_squared_distances():
    x = np.array([0.0, 1.0, 3.0, 10.0])
    scores = krum_scores((x[:, None] - x) ** 2, f=1)  # two neighbours each
    np.testing.assert_array_equal(scores, [1 + 9, 1 + 4, 4 + 9, 49 + 81])


def test_krum_returns_the_row_with_the_lowest_score():
    np.testing.assert_array_equal(Krum(f=1).aggregate(column(0.0, 1.0, 3.0, 10.0)), [1.0])


def test_multi_krum_averages_the_q_best():
    np.testing.assert_array_equal(MultiKrum(f=1, q=3).aggregate(column(0.0, 1.0, 3.5, 10.0)), [1.5])


def test_equal_scores_go_to_the_lower_index():
    np.testing.assert_array_equal(Krum(f=1).aggregate(column(3.0, 2.0, 1.0, 0.0)), [2.0])


def test_multi_krum_of_all_rows_is_their_mean():
    np.testing.assert_array_equal(MultiKrum(f=0, q=4).aggregate(column(0.0, 1.0, 3.0, 4.0)), [2.0])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 1e38])
def test_two_hostile_rows_are_never_chosen(bad):
    rows = column(*np.linspace(0.0, 1.0, 9), bad, bad)
    result = MultiKrum(f=2, q=9).aggregate([row.astype(np.float32) for row in rows])
    np.testing.assert_allclose(result, [0.5], rtol=1e-6)


@pytest.mark.parametrize(("f", "q", "n"), [(2, 1, 3), (1, 4, 4), (0, 1, 1)])
def test_too_much_to_tolerate_is_refused(f, q, n):
    with pytest.raises(ToleranceError, match=f"got f={f}, q={q}, n={n}"):
        MultiKrum(f=f, q=q).aggregate(column(*range(n)))


def test_bad_options_are_refused_at_construction():
    with pytest.raises(ValueError, match="f must be at least 0"):
        Krum(f=-1)
    with pytest.raises(ValueError, match="q must be at least 1"):
        MultiKrum(f=0, q=0)
    with pytest.raises(ValueError, match="chunk_size"):
        Krum(f=0, chunk_size=0)
    with pytest.raises(TypeError, match="f must be a whole number"):
        Krum(f="1")


def test_the_multikrum_within_krum_has_its_options_and_its_result():
    rule, rows = Krum(f=1, chunk_size=8), column(0, 1, 1.5, 9)
    assert rule.krum == MultiKrum(f=1, q=1, chunk_size=8)
    assert rule.krum.aggregate(rows) == rule.aggregate(rows)
