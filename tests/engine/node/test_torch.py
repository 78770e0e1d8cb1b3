"""The ready-made nodes: momentum, streams, idempotence, attacks, state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.norm_wise import FoolsGold, StatefulCenteredClipping
from byzflow.aggregators.pipeline import Pipeline
from byzflow.attacks import LabelFlipAttack, OptimalEmpire, OptimalLittle
from byzflow.engine.node.mixin import P2PHonestMixin
from byzflow.engine.node.torch import TorchByzantineNode, TorchHonestNode
from byzflow.pre_aggregators import Bucketing

DATA = (torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))


def test_the_gradient_is_that_of_the_plain_loss() -> None:
    node = TorchHonestNode(net, DATA, batch_size=8)
    x, y = node.next_batch()
    loss = nn.functional.cross_entropy(node.model(x), y)
    parts = torch.autograd.grad(loss, list(node.model.parameters()))
    expected = torch.cat([part.reshape(-1) for part in parts])
    torch.testing.assert_close(node.honest_gradient_for_next_batch(), expected)


def test_a_factory_makes_the_same_model_on_every_node_of_a_seed() -> None:
    a, b, c = (TorchHonestNode(net, DATA, seed=seed, node=node) for seed, node in [(1, 0), (1, 5), (2, 0)])
    assert torch.equal(a.get_param_vector(), b.get_param_vector())
    assert not torch.equal(a.get_param_vector(), c.get_param_vector())


def test_a_model_given_as_a_module_is_copied() -> None:
    model = net()
    node = TorchHonestNode(model, DATA)
    node.apply_server_gradient(torch.ones(26))
    assert not torch.equal(node.get_param_vector(), nn.utils.parameters_to_vector(model.parameters()))


def test_batches_differ_by_node_and_round_and_cover_the_data() -> None:
    nodes = [TorchHonestNode(net, DATA, batch_size=10, node=i) for i in range(2)]
    seen = []
    for round in range(4):
        for node in nodes:
            node.begin_round(round)
        batches = [node.next_batch()[0] for node in nodes]
        assert not torch.equal(*batches)
        seen.append(batches[0])
    assert torch.equal(torch.cat(seen).sum(0).sort().values, torch.cat(seen).sum(0).sort().values)
    assert len(torch.unique(torch.cat(seen), dim=0)) == 40


@pytest.mark.parametrize("model", [net, dropping])
def test_asked_twice_it_answers_the_same_and_momentum_steps_once(model: Any) -> None:
    node, twin = (TorchHonestNode(model, DATA, momentum=0.9, seed=3) for _ in range(2))
    for _ in range(3):
        first = node.honest_gradient_for_next_batch()
        assert torch.equal(first, node.honest_gradient_for_next_batch())
        assert torch.equal(first, twin.honest_gradient_for_next_batch())
        node.apply_server_gradient(first)
        twin.apply_server_gradient(first)


def test_dropout_leaves_the_global_stream_alone() -> None:
    node = TorchHonestNode(dropping, DATA)
    before = torch.get_rng_state()
    node.honest_gradient_for_next_batch()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "layer",
    [nn.Dropout(0.5), nn.RReLU(), nn.MultiheadAttention(4, 1, 0.5), nn.GRU(4, 4, 2, dropout=0.5)],
    ids=lambda layer: type(layer).__name__,
)
def test_what_layers_draw_does_not_depend_on_who_seeded_the_process(layer: nn.Module) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            inputs = (x, x, x) if isinstance(layer, nn.MultiheadAttention) else (x,)
            made = self.second(*inputs)
            return made[0] if isinstance(made, tuple) else made

    model = Model()

    def gradient(seed: int) -> torch.Tensor:
        node = TorchHonestNode(model, DATA, batch_size=8)
        torch.manual_seed(seed)
        return node.honest_gradient_for_next_batch()

    assert torch.equal(gradient(3), gradient(4))


class Functional(nn.Linear):
    """Dropout without a layer of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(super().forward(x), 0.5, self.training)


class Augmented(torch.utils.data.TensorDataset):
    """Examples with noise, drawn anew whenever one is looked at."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        x, y = super().__getitem__(index)
        return x + torch.randn(3), y


@pytest.mark.parametrize(
    ("model", "data"),
    [(lambda: Functional(3, 2), DATA), (net, Augmented(*DATA))],
    ids=["forward", "examples"],
)
def test_whatever_draws_from_the_global_stream_gets_one_of_its_node(model: Any, data: Any) -> None:
    def gradients(process_seed: int) -> torch.Tensor:
        torch.manual_seed(process_seed)
        node = TorchHonestNode(model, data, batch_size=8, lr=0.0)
        made = []
        for round in range(3):
            node.begin_round(round)
            made.append(node.honest_gradient(*node.next_batch()))
        return torch.stack(made)

    assert torch.equal(gradients(3), gradients(4))


def test_numbers_of_numpy_are_seeds_and_nodes() -> None:
    plain, numbers = (
        TorchHonestNode(net, DATA, seed=seed, node=node, batch_size=8)
        for seed, node in [(3, 2), (np.int64(3), np.int64(2))]
    )
    assert torch.equal(plain.get_param_vector(), numbers.get_param_vector())
    assert torch.equal(plain.honest_gradient_for_next_batch(), numbers.honest_gradient_for_next_batch())


def test_a_seed_below_zero_and_half_an_example_are_named() -> None:
    with pytest.raises(ValueError, match="seed"):
        TorchHonestNode(net, DATA, seed=-1)
    with pytest.raises(TypeError, match="batch_size"):
        TorchHonestNode(net, DATA, batch_size=2.5)  # type: ignore[arg-type]  # what is refused


def test_momentum_is_a_running_mean() -> None:
    node = TorchHonestNode(net, DATA, momentum=0.5, lr=0.0)
    plain = TorchHonestNode(net, DATA, lr=0.0)
    m = torch.zeros(26)
    for _ in range(3):
        m = 0.5 * m + 0.5 * plain.honest_gradient_for_next_batch()
        torch.testing.assert_close(node.honest_gradient_for_next_batch(), m)
        node.apply_server_gradient(m)
        plain.apply_server_gradient(m)


def test_weight_decay_pulls_towards_zero() -> None:
    plain, decayed = TorchHonestNode(net, DATA), TorchHonestNode(net, DATA, weight_decay=0.1)
    difference = decayed.honest_gradient_for_next_batch() - plain.honest_gradient_for_next_batch()
    torch.testing.assert_close(difference, 0.1 * plain.get_param_vector())


def test_a_state_dict_goes_on_bit_for_bit() -> None:
    node, twin = (TorchHonestNode(net, DATA, momentum=0.9, seed=3) for _ in range(2))
    for _ in range(2):
        node.apply_server_gradient(node.honest_gradient_for_next_batch())
    twin.load_state_dict(node.state_dict())
    for _ in range(2):
        for one in (node, twin):
            one.apply_server_gradient(one.honest_gradient_for_next_batch())
    assert torch.equal(node.get_param_vector(), twin.get_param_vector())


def test_it_learns_and_says_so() -> None:
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0] > 0).long()
    node = TorchHonestNode(net, (x, y), lr=0.5, batch_size=50)
    for _ in range(60):
        node.apply_server_gradient(node.honest_gradient_for_next_batch())
    assert node.evaluate(x, y)["accuracy"] > 0.9


def test_half_steps_follow_the_momentum() -> None:
    node = TorchHonestNode(net, DATA, momentum=0.5)
    before, step = node.get_param_vector(), node.honest_gradient_for_next_batch()
    torch.testing.assert_close(node.p2p_half_step(0.1), before - 0.1 * step)
    assert node.round == 1


def test_frozen_parameters_stay_out_of_the_gradient() -> None:
    model = net()
    model[0].requires_grad_(False)
    node = TorchHonestNode(model, DATA)
    assert node.honest_gradient_for_next_batch().shape == (10,)
    assert node.get_param_vector().shape == (26,)
    with pytest.raises(ValueError, match=r"must have shape \(10,\)"):
        node.apply_server_gradient(torch.zeros(26))


class SignFlip:
    uses_base_grad = True

    def apply(self, *, base_grad: Any = None, **unused: Any) -> Any:
        return -base_grad


class FlipLabels:
    uses_model_batch = True

    def apply(self, *, model: Any = None, x: Any = None, y: Any = None, **unused: Any) -> Any:
        loss = nn.functional.cross_entropy(model(x), 1 - y)
        return torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, list(model.parameters()))])


@dataclass(frozen=True)
class Noise:
    seed: int | None = None
    uses_honest_grads = True

    def apply(self, *, honest_grads: Any = None, **unused: Any) -> Any:
        return torch.randn(honest_grads[0].shape, generator=torch.Generator().manual_seed(self.seed or 0))


class Count:
    uses_honest_grads = True

    def step(self, state: Any, *, honest_grads: Any) -> tuple[Any, Any]:
        count = (state or 0) + 1
        return honest_grads[0] * count, count


def test_sign_flip_gets_an_own_gradient() -> None:
    node, honest = TorchByzantineNode(SignFlip(), net, DATA), TorchHonestNode(net, DATA)
    torch.testing.assert_close(
        node.byzantine_gradient_for_next_batch((torch.zeros(26),)), -honest.honest_gradient_for_next_batch()
    )


def test_label_flip_gets_model_and_batch() -> None:
    assert TorchByzantineNode(FlipLabels(), net, DATA).byzantine_gradient_for_next_batch(()).shape == (26,)


def test_an_attack_that_needs_a_model_says_so() -> None:
    with pytest.raises(ValueError, match="SignFlip needs an own gradient"):
        TorchByzantineNode(SignFlip())


def test_an_unseeded_attack_draws_anew_each_round_and_the_same_again() -> None:
    node, twin = (TorchByzantineNode(Noise(), seed=1, node="b") for _ in range(2))
    shown = (torch.zeros(5),)
    first, second = (node.byzantine_gradient_for_next_batch(shown) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, twin.byzantine_gradient_for_next_batch(shown))


@pytest.mark.parametrize(
    "attack",
    [
        LabelFlipAttack(num_classes=2),
        OptimalLittle(1, CoordinateWiseMedian(), [Bucketing(2)]),
        OptimalEmpire(1, Pipeline([Bucketing(2)], CoordinateWiseMedian())),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_what_an_attack_draws_by_a_model_or_a_rule_is_keyed_by_its_node(attack: Any) -> None:
    shown = torch.randn(7, 26, generator=torch.Generator().manual_seed(1)).unbind()

    def sent(process_seed: int) -> torch.Tensor:
        torch.manual_seed(process_seed)
        node = TorchByzantineNode(attack, dropping, DATA, seed=1, node="b")
        return torch.stack([node.byzantine_gradient_for_next_batch(shown) for _ in range(3)])

    assert torch.equal(sent(3), sent(4))


def test_an_attack_with_state_carries_it_and_saves_it() -> None:
    node = TorchByzantineNode(Count())
    shown = (torch.ones(2),)
    node.byzantine_gradient_for_next_batch(shown)
    other = TorchByzantineNode(Count())
    other.load_state_dict(node.state_dict())
    assert other.byzantine_gradient_for_next_batch(shown).tolist() == [2.0, 2.0]


def test_peers_get_parameters_also_from_an_attack_on_gradients() -> None:
    node = TorchByzantineNode(SignFlip(), net, DATA, lr=0.1)
    theta = TorchHonestNode(net, DATA, seed=9).get_param_vector()
    sent = node.p2p_broadcast_vector(neighbor_vectors=[theta, theta], like=theta)
    own = TorchHonestNode(net, DATA)
    own.set_param_vector(theta)
    torch.testing.assert_close(sent, theta + 0.1 * own.honest_gradient_for_next_batch())


def test_an_attack_on_gradients_leaves_parameters_alone_that_are_not_trained() -> None:
    def frozen() -> nn.Module:
        model = net()
        model[0].weight.requires_grad_(False)
        return model

    node = TorchByzantineNode(SignFlip(), frozen, DATA, lr=0.1)
    theta = TorchHonestNode(net, DATA, seed=9).get_param_vector()
    sent = node.p2p_broadcast_vector(neighbor_vectors=[theta, theta], like=theta)
    own = TorchHonestNode(frozen, DATA)
    own.set_param_vector(theta)
    gradient = torch.cat([torch.zeros(12), own.honest_gradient_for_next_batch()])
    torch.testing.assert_close(sent, theta + 0.1 * gradient)


@pytest.mark.parametrize("length", [25, 27])
def test_parameters_stay_as_they_are_if_a_vector_does_not_fit(length: int) -> None:
    node = TorchHonestNode(net, DATA)
    before = node.get_param_vector()
    with pytest.raises(ValueError, match=rf"shape \(26,\); got \({length},\)"):
        node.set_param_vector(torch.zeros(length))
    assert torch.equal(node.get_param_vector(), before)


def test_parameters_of_two_dtypes_are_written_without_loss() -> None:
    class Node(P2PHonestMixin):
        model = nn.Sequential(nn.Linear(3, 4).bfloat16(), nn.Linear(4, 2))

    node = Node()
    theta = node.get_param_vector()
    node.set_param_vector(theta)
    assert theta.dtype == torch.float32
    assert torch.equal(node.get_param_vector(), theta)


def test_mixing_goes_on_from_the_state_of_the_rule() -> None:
    rule = StatefulCenteredClipping(c_tau=1.0, init="median")
    node = TorchHonestNode(net, DATA, p2p_agg=rule)
    state, twin = None, TorchHonestNode(net, DATA, p2p_agg=rule)
    for round in range(3):
        rows = [
            torch.randn(26, generator=torch.Generator().manual_seed(10 * round + i)) + 9 for i in range(4)
        ]
        mixed, state = rule.step(rows, state)
        if round == 2:
            twin.load_state_dict(node.state_dict())
            twin.p2p_aggregate_and_set(rows[0], rows[1:])
        node.p2p_aggregate_and_set(rows[0], rows[1:])
        assert torch.equal(node.get_param_vector(), mixed)
    assert torch.equal(twin.get_param_vector(), node.get_param_vector())


def test_a_rule_by_node_starts_anew_where_nobody_says_who_sent() -> None:
    node = TorchHonestNode(net, DATA, p2p_agg=FoolsGold())
    for n in (4, 3):
        rows = [torch.randn(26, generator=torch.Generator().manual_seed(i)) for i in range(n)]
        node.p2p_aggregate_and_set(rows[0], rows[1:])
        assert torch.equal(node.get_param_vector(), FoolsGold().aggregate(rows))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"loss": nn.MSELoss}, "loss must be a function.*got type"),
        ({"loss": torch.tensor(3.0)}, "loss must be a function.*got Tensor"),
        ({"lr": "0.1"}, "lr must be a real number"),
        ({"momentum": "0.9"}, "momentum must be a real number"),
        ({"weight_decay": None}, "weight_decay must be a real number"),
    ],
)
def test_wrong_options_are_refused_when_the_node_is_made(options: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        TorchHonestNode(net, DATA, **options)


@pytest.mark.parametrize(
    ("model", "data", "error", "text"),
    [
        (lambda: 3, DATA, TypeError, "must be a torch.nn.Module or a function that returns one; got int"),
        (nn.Flatten, DATA, ValueError, "trainable parameters of one dtype on one device; got 0 kinds"),
        (net, (DATA[0], DATA[1][1:]), ValueError, "as many labels as examples"),
        (net, iter(()), TypeError, r"must be \(x, y\) or a map-style Dataset; got tuple_iterator"),
        (net, (DATA[0][:0], DATA[1][:0]), ValueError, "at least one example; got none"),
    ],
)
def test_wrong_models_and_data_are_refused(model: Any, data: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        TorchHonestNode(model, data)


def test_what_is_no_attack_is_refused() -> None:
    for wrong in (SignFlip, CoordinateWiseMedian()):
        with pytest.raises(TypeError, match="attack must be an object with apply"):
            TorchByzantineNode(wrong, net, DATA)
