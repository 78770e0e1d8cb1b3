"""FoolsGold against loops over pairs of nodes."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np
import pytest
import torch

from byzflow.aggregators.norm_wise.fools_gold import FoolsGold, history_weights


def slow(H, confidence=1.0):
    n = len(H)
    cosine = [
        [0.0 if i == j else H[i] @ H[j] / (np.linalg.norm(H[i]) * np.linalg.norm(H[j])) for j in range(n)]
        for i in range(n)
    ]
    v = [max(row) for row in cosine]
    for i in range(n):
        for j in range(n):
            if v[j] > v[i]:
                cosine[i][j] *= v[i] / v[j]
    a = [min(1.0, max(0.0, 1.0 - max(row))) for row in cosine]
    top = max(a)
    weights = []
    for value in a:
        value /= top
        logit = math.inf if value >= 1 else -math.inf if value <= 0 else math.log(value / (1 - value))
        weights.append(min(1.0, max(0.0, confidence * (logit + 0.5))))
    return np.array(weights)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("confidence", [0.5, 1.0, 2.0])
def test_weights_equal_the_loops(seed, confidence):
    rng = np.random.default_rng(seed)
    H = rng.normal(size=(7, 4))
    H[:3] = H[0] + 0.3 * rng.normal(size=(3, 4))
    np.testing.assert_allclose(
        history_weights(H @ H.T, confidence, np.ones(7, bool)), slow(H, confidence), atol=1e-9
    )


def test_steps_sum_histories_and_weigh_by_them():
    rng = np.random.default_rng(0)
    rule, state, H = FoolsGold(), None, np.zeros((6, 5))
    for _ in range(3):
        X = rng.normal(size=(6, 5))
        X[4] = X[5] = X[0] * 2
        H += X
        aggregate, state = rule.step(X, state)
        w = slow(H)
        np.testing.assert_allclose(state["history"], H, rtol=1e-9)
        np.testing.assert_allclose(aggregate, w @ X / w.sum(), rtol=1e-6, atol=1e-9)


def test_sybils_have_no_say():
    rows = [np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]), *[np.array([0.0, 0.0, 7.0])] * 5]
    np.testing.assert_allclose(FoolsGold().aggregate(rows), [0.5, 0.5, 0.0], atol=1e-12)


def test_nobody_trusted_gives_a_zero_step():
    np.testing.assert_array_equal(FoolsGold().aggregate([np.ones(2)] * 3), [0.0, 0.0])


@pytest.mark.parametrize("d", [1, 5, 50, 1500])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_rounding_trusts_nobody_where_all_point_one_way(dtype, d):
    for seed in range(40):
        random = np.random.default_rng(seed)
        lengths = random.permutation([1.0, 1.0, *random.normal(size=5), -1.0, -1.0])  # no way has only one
        way = torch.from_numpy(2.0 ** random.integers(-3, 3, size=d)).to(dtype)  # rows are exact multiples
        rows = [float(torch.tensor(length).to(dtype)) * way for length in lengths]
        assert not FoolsGold().aggregate(rows).any()


def test_a_single_node_is_trusted():
    np.testing.assert_array_equal(FoolsGold().aggregate([np.array([1.0, 2.0])]), [1.0, 2.0])


def test_rows_that_are_not_finite_stay_out_of_the_history():
    rows = [torch.tensor([1.0, 0.0]), torch.tensor([float("nan"), 1.0]), torch.tensor([0.0, 1.0])]
    aggregate, state = FoolsGold().step(rows, None)
    assert aggregate.tolist() == [0.5, 0.5]
    assert state["history"].tolist() == [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]


def test_a_row_that_is_not_finite_does_not_set_the_scale_of_trust():
    alike = [np.array([1.0, 0.1, 0.0]), np.array([1.0, 0.0, 0.1]), np.array([1.0, 0.1, 0.1])]
    expected = FoolsGold().aggregate(alike)
    assert expected[0] > 0.9
    np.testing.assert_allclose(FoolsGold().aggregate([*alike, np.full(3, np.nan)]), expected)


def test_a_state_of_other_nodes_is_refused():
    _, state = FoolsGold().step([np.ones(2), np.zeros(2)], None)
    with pytest.raises(ValueError, match="got 2 for n=3"):
        FoolsGold().step([np.ones(2)] * 3, state)


def test_lazy_rounds_equal_eager_ones():
    X = np.random.default_rng(0).normal(size=(4, 40))
    lazy = da.from_array(X, chunks=(4, 16))
    rule = FoolsGold()
    _, state = rule.step(lazy, None)
    aggregate, state = rule.step(lazy[::-1], state)
    _, eager_state = rule.step(X, None)
    expected, eager_state = rule.step(X[::-1], eager_state)
    np.testing.assert_array_equal(aggregate.compute(scheduler="synchronous"), expected)
    np.testing.assert_array_equal(state["history"].compute(scheduler="synchronous"), eager_state["history"])


def test_an_absent_node_is_as_one_whose_row_is_not_finite():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(2, 5, 4))
    for states in (None, FoolsGold().step(X[0], None)[1]):
        missing = X[1].copy()
        missing[2] = np.nan
        want, after = FoolsGold().step(missing, states)
        got, known = FoolsGold(absent=(2,)).step(np.delete(X[1], 2, axis=0), states)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(known["history"], after["history"])


def test_absent_nodes_are_nodes_of_the_run():
    with pytest.raises(ValueError, match=r"absent nodes to be some of the n=4; got absent=\(7,\)"):
        FoolsGold(absent=(7,)).step(np.ones((3, 2)), None)


def test_the_aggregate_keeps_no_histories_and_they_keep_no_more_than_themselves():
    rows = list(torch.randn(5, 70, 100, generator=torch.Generator().manual_seed(0)))
    for kind in (torch.Tensor.clone, torch.Tensor.half, lambda row: row.double().numpy()):
        aggregate, state = FoolsGold().step([kind(row) for row in rows], None)
        history = state["history"]
        assert history.shape == (5, 70, 100)
        assert not np.shares_memory(np.asarray(aggregate), np.asarray(history))
        if isinstance(history, torch.Tensor):
            assert len(history.untyped_storage()) == history.nbytes
            assert len(aggregate.untyped_storage()) == aggregate.nbytes
