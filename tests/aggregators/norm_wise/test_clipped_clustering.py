"""Clipped clustering: directions, lengths, and the history of lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import AgglomerativeClustering

from byzflow.aggregators.norm_wise import ClippedClustering
from byzflow.exceptions import ToleranceError


@pytest.mark.parametrize("seed", range(4))
def test_clusters_are_those_of_scikit_learn(seed):
    X = np.random.default_rng(seed).normal(size=(9, 30))
    X[:5] += 1.0
    labels = AgglomerativeClustering(2, metric="cosine", linkage="average").fit(X).labels_
    kept = labels == np.bincount(labels).argmax()
    norms = np.linalg.norm(X, axis=1)
    clipped = X * np.minimum(1.0, np.sort(norms)[4] / norms)[:, None]
    np.testing.assert_allclose(ClippedClustering().aggregate(list(X)), clipped[kept].mean(0), rtol=1e-10)


def test_state_is_passed_in_and_returned_and_never_kept():
    rule = ClippedClustering()
    rows = [torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0]), torch.tensor([4.0, 0.0])]
    first, state = rule.step(rows, None)
    assert torch.equal(first, rule.aggregate(rows))
    assert sorted(state["norms"]) == [1.0, 2.0, 4.0]
    longer = [10.0 * row for row in rows]
    second, state = rule.step(longer, state)
    # The lower median of 1, 2, 4, 10, 20, 40 is 4.
    torch.testing.assert_close(second, torch.tensor([4.0, 0.0]))
    assert len(state["norms"]) == 6


def test_norms_that_are_not_finite_stay_out_of_the_history():
    rows = [np.array([1.0]), np.array([np.nan]), np.array([2.0])]
    _, state = ClippedClustering().step(rows, None)
    assert sorted(state["norms"]) == [1.0, 2.0]


def test_zeros_are_at_right_angles_to_everything():
    rows = [np.zeros(2), np.array([1.0, 0.0]), np.array([1.0, 0.1])]
    got = ClippedClustering().aggregate(rows)
    assert got[0] > 0.9


def test_nothing_finite_is_refused():
    with pytest.raises(ToleranceError, match="ClippedClustering"):
        ClippedClustering().aggregate([np.array([np.nan])])


def test_two_clusters_are_made_also_where_the_last_merges_are_equally_high():
    honest, liars = np.tile([1.0, 0.0, 0.0], (5, 1)), [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    out = ClippedClustering().aggregate([*honest, *np.array(liars)])
    assert out[0] > 0.8  # one of the two is left out, five of six are honest; all seven give 5 / 7
