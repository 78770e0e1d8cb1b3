"""Hand-computed examples and the promises of the attacks that need no search."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import ndtri

from byzflow.attacks import (
    GaussianAttack,
    InfAttack,
    LittleAttack,
    NaNAttack,
    NoAttack,
    RandomAttack,
    ScaledSignFlipAttack,
    SignFlipAttack,
    ZeroAttack,
)
from byzflow.operators.base import OpContext

CONTEXT = OpContext(node_name="attack")
HONEST = [np.array([0.0, 1.0]), np.array([2.0, 1.0]), np.array([4.0, 1.0])]


def test_sign_flip_scales_the_nodes_own_vector():
    own = torch.tensor([[1.0, -2.0]])
    sent = SignFlipAttack(scale=-3.0).apply(base_grad=own)
    assert torch.equal(sent, torch.tensor([[-3.0, 6.0]]))
    assert sent.data_ptr() != own.data_ptr()


def test_no_attack_sends_a_copy():
    own = np.array([1.0, 2.0])
    sent = NoAttack().apply(base_grad=own)
    assert sent.tolist() == [1.0, 2.0]
    assert not np.shares_memory(sent, own)


@pytest.mark.parametrize(("attack", "value"), [(InfAttack(), math.inf), (ZeroAttack(), 0.0)])
def test_constant_attacks_fill_the_shape_of_the_honest_vectors(attack, value):
    sent = attack.apply(honest_grads=[torch.ones(2, 3, dtype=torch.bfloat16)] * 2)
    assert sent.dtype == torch.bfloat16
    assert torch.equal(sent.float(), torch.full((2, 3), value))


def test_nan_attack_sends_only_nan():
    assert np.isnan(NaNAttack().apply(honest_grads=HONEST)).all()


@pytest.mark.parametrize(("h", "f", "N"), [(10, 3, None), (7, 0, None), (8, 2, 30), (4, 20, 20), (3, 0, 2)])
def test_little_moves_by_z_population_standard_deviations(h, f, N):
    X = np.random.default_rng(h).normal(size=(h, 5))
    total = h + f if N is None else N
    supporters = max(1, total // 2 + 1 - f)
    z = ndtri(np.clip((total - supporters) / total, 1e-12, 1 - 1e-12))
    sent = LittleAttack(f=f, N=N).apply(honest_grads=list(X))
    np.testing.assert_allclose(sent, X.mean(0) + z * X.std(0), rtol=0, atol=1e-8)


@pytest.mark.parametrize("options", [{"f": -1}, {"f": 3, "N": 2}, {"f": 0, "N": 0}])
def test_little_refuses_impossible_numbers_of_nodes(options):
    with pytest.raises(ValueError, match=r"needs|must"):
        LittleAttack(**options)


def test_scaled_sign_flip_cancels_the_sum_of_the_honest_vectors():
    sent = ScaledSignFlipAttack(f=2).apply(honest_grads=HONEST)
    np.testing.assert_allclose(sum(HONEST) + 2 * sent, 0.0, atol=1e-15)


def test_scaled_sign_flip_leaves_out_rows_that_are_not_finite():
    sent = ScaledSignFlipAttack(f=1).apply(honest_grads=[*HONEST, np.array([np.nan, 0.0])])
    assert sent.tolist() == [-6.0, -3.0]


@pytest.mark.parametrize("d", [1, 5, 8191, 8193, 20_001])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_seeded_gaussian_is_the_stream_of_numpy_on_every_path(d, dtype):
    expected = np.random.default_rng(11).normal(0.5, 2.0, d).astype(dtype)
    attack = GaussianAttack(mu=0.5, sigma=2.0, seed=11)
    honest = [np.zeros(d, dtype)] * 3
    assert np.array_equal(attack.apply(honest_grads=honest), expected)
    context = OpContext("attack", {"pool_size": 3})
    subtasks = list(attack.create_subtasks({"honest_grads": honest}, context=context))
    partials = [task.fn(*task.args, **task.kwargs) for task in reversed(subtasks)][::-1]
    sent = attack.reduce_subtasks(partials, {"honest_grads": honest}, context=context)
    assert np.array_equal(sent, expected)


@pytest.mark.parametrize("attack", [GaussianAttack(), RandomAttack()], ids=lambda a: type(a).__name__)
def test_unseeded_noise_is_new_at_every_call(attack):
    honest = [np.zeros(8)]
    assert not np.array_equal(attack.apply(honest_grads=honest), attack.apply(honest_grads=honest))


@pytest.mark.parametrize("attack", [GaussianAttack(), RandomAttack()], ids=lambda a: type(a).__name__)
def test_unseeded_noise_is_one_stream_within_a_call(attack):
    honest = [np.zeros(5000)]
    context = OpContext("attack", {"pool_size": 4})
    tasks = list(attack.create_subtasks({"honest_grads": honest}, context=context))
    plans = {id(task.args[3]) if isinstance(attack, GaussianAttack) else task.args[3] for task in tasks}
    assert len(tasks) > 1
    assert len(plans) == 1


def test_random_is_uniform_between_its_bounds():
    sent = RandomAttack(low=2.0, high=6.0, seed=3).apply(honest_grads=[np.zeros(20_000)])
    assert sent.min() >= 2.0
    assert sent.max() < 6.0
    assert abs(sent.mean() - 4.0) < 0.05
    assert abs(sent.std() - 4.0 / np.sqrt(12.0)) < 0.05


def test_random_refuses_bounds_the_wrong_way_round():
    with pytest.raises(ValueError, match="low <= high"):
        RandomAttack(low=1.0, high=0.0)


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf])
def test_gaussian_refuses_impossible_deviations(sigma):
    with pytest.raises(ValueError, match="sigma"):
        GaussianAttack(sigma=sigma)


@pytest.mark.parametrize(
    "attack", [SignFlipAttack(), NoAttack(), InfAttack(), LittleAttack(f=1)], ids=lambda a: type(a).__name__
)
def test_missing_inputs_are_a_value_error_from_apply_and_a_key_error_from_compute(attack):
    with pytest.raises(ValueError, match="needs"):
        attack.apply()
    with pytest.raises(KeyError):
        attack.compute({}, context=CONTEXT)


@pytest.mark.parametrize(
    "attack", [InfAttack(), GaussianAttack(), LittleAttack(f=1)], ids=lambda a: type(a).__name__
)
def test_no_honest_vectors_are_a_value_error(attack):
    with pytest.raises(ValueError, match="At least one vector"):
        attack.apply(honest_grads=[])
