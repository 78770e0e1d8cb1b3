"""Label flipping: the right gradient, and a model that nothing happened to."""

from __future__ import annotations

import pytest
import torch

from byzflow.attacks import LabelFlipAttack

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3, 0, 1])


def model():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 4))


def gradient_of(net, labels):
    loss = torch.nn.functional.cross_entropy(net(X), labels)
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(net.parameters()))])


def test_sent_vector_is_the_gradient_for_reversed_labels():
    sent = LabelFlipAttack(num_classes=4, scale=2.0).apply(model=model(), x=X, y=Y)
    torch.testing.assert_close(sent, 2.0 * gradient_of(model(), 3 - Y))


def test_mapping_is_applied_at_once_and_goes_first():
    attack = LabelFlipAttack(num_classes=4, mapping={0: 1, 1: 0})
    sent = attack.apply(model=model(), x=X, y=Y)
    torch.testing.assert_close(sent, gradient_of(model(), torch.tensor([1, 0, 2, 3, 1, 0])))


@pytest.mark.parametrize("training", [True, False])
def test_model_is_not_touched(training):
    net = model().train(training)
    net[0].weight.grad = torch.full_like(net[0].weight, 7.0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    LabelFlipAttack(num_classes=4).apply(model=net, x=X, y=Y)
    assert net.training is training
    assert torch.equal(net[0].weight.grad, torch.full_like(net[0].weight, 7.0))
    assert net[2].weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_frozen_parameters_are_left_out_and_unused_ones_are_zero():
    net = model()
    net[0].requires_grad_(False)
    net.register_parameter("unused", torch.nn.Parameter(torch.ones(2)))
    with torch.no_grad():
        sent = LabelFlipAttack(num_classes=4).apply(model=net, x=X, y=Y)
    assert sent.numel() == 10 + 24 + 2
    assert not sent.requires_grad
    assert torch.count_nonzero(sent[:2]) == 0


def test_loss_function_is_used():
    attack = LabelFlipAttack(num_classes=4, loss_fn=lambda out, labels: out.sum() * 0.0 + labels.sum() * 0.0)
    assert torch.count_nonzero(attack.apply(model=model(), x=X, y=Y)) == 0


@pytest.mark.parametrize("options", [{}, {"num_classes": 0}, {"num_classes": 3, "scale": float("nan")}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=r"needs|must"):
        LabelFlipAttack(**options)


@pytest.mark.parametrize("options", [{"mapping": [1, 0]}, {"mapping": {0: 1.5}}, {"loss_fn": "mse"}])
def test_options_of_the_wrong_kind_are_refused(options):
    with pytest.raises(TypeError, match=rf"{next(iter(options))} must .*; got .*\. "):
        LabelFlipAttack(num_classes=3, **options)


def test_mapping_is_copied():
    mapping = {0: 1}
    attack = LabelFlipAttack(mapping=mapping)
    mapping[0] = 2
    assert attack.flip(torch.tensor([0])).tolist() == [1]


def test_missing_batch_is_named():
    with pytest.raises(ValueError, match="None for y"):
        LabelFlipAttack(num_classes=2).apply(model=model(), x=X)


@pytest.mark.parametrize("label", [4, -1])
def test_labels_that_are_no_classes_are_refused(label):
    with pytest.raises(ValueError, match="labels from 0 to num_classes - 1; got"):
        LabelFlipAttack(num_classes=4).apply(model=model(), x=X, y=torch.full_like(Y, label))


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(TypeError, match=r"needs a torch\.nn\.Module; got function"):
        LabelFlipAttack(num_classes=4).apply(model=lambda x: x, x=X, y=Y)


def test_a_batch_of_numpy_arrays_is_taken():
    one = model()
    sent = LabelFlipAttack(num_classes=4).apply(model=one, x=X.numpy(), y=Y.numpy())
    assert torch.equal(sent, LabelFlipAttack(num_classes=4).apply(model=one, x=X, y=Y))
