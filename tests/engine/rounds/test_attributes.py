from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from byzflow.engine.rounds.attributes import attributes_of, frozen, take_over

TENSORS = {
    "plain": torch.arange(6.0).reshape(2, 3),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "slice": torch.arange(6.0)[1:4],
    "column": torch.arange(6.0).reshape(2, 3)[:, 1],
    "bfloat16": torch.ones(3, dtype=torch.bfloat16),
    "bool": torch.tensor([True, False]),
    "complex": torch.tensor([1 + 2j]),
    "conjugate": torch.tensor([1 + 2j]).conj(),
    "empty": torch.empty(0, 3),
    "scalar": torch.tensor(2),
    "leaf": torch.ones(2, requires_grad=True),
    "parameter": nn.Parameter(torch.ones(2)),
}


def thawed(**attributes: object) -> SimpleNamespace:
    return SimpleNamespace(**pickle.loads(frozen(attributes)))


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_comes_back_with_its_layout(name: str) -> None:
    value = TENSORS[name]
    got = thawed(w=value).w
    assert type(got) is type(value)
    assert torch.equal(got, value)
    assert (got.dtype, got.stride(), got.requires_grad) == (value.dtype, value.stride(), value.requires_grad)
    assert got.is_leaf


def test_a_tensor_that_is_held_twice_stays_one() -> None:
    w = torch.ones(2)
    got = thawed(first=w, second=[w])
    assert got.first is got.second[0]


def flat_and_views() -> dict[str, Any]:
    flat = torch.arange(10.0)
    return {"flat": flat, "part": flat[3:7], "odd": flat[1::2], "square": flat[:9].view(3, 3).T}


def array_and_views() -> dict[str, Any]:
    array = np.arange(10.0)
    shown = array[2:5]
    shown.flags.writeable = False
    return {"flat": array, "back": array[::-1], "tensor": torch.from_numpy(array), "shown": shown}


def vector_of_a_model() -> dict[str, Any]:
    model, vector = nn.Linear(3, 2), torch.arange(8.0)
    nn.utils.vector_to_parameters(vector, model.parameters())
    return {"flat": vector, "model": model, "bias": model.bias, "data": model.bias.data}


def two_windows() -> dict[str, Any]:
    """Overlap, while what they are of does not belong to the state."""
    flat = torch.arange(100.0)
    return {"flat": flat[10:20], "next": flat[15:25]}


def numbers(attributes: dict[str, Any]) -> list[Any]:
    known = [v.state_dict() if isinstance(v, nn.Module) else v for v in attributes.values()]
    return [{k: t.tolist() for k, t in v.items()} if isinstance(v, dict) else v.tolist() for v in known]


@pytest.mark.parametrize("make", [flat_and_views, array_and_views, vector_of_a_model, two_windows])
def test_what_shares_memory_shares_it_again(make: Any) -> None:
    here, there = make(), vars(thawed(**make()))
    for known in (here, there):
        known["flat"][:] *= 10.0
    assert numbers(there) == numbers(here)
    for name, value in here.items():
        if isinstance(value, torch.Tensor | np.ndarray):
            assert layout(there[name]) == layout(value)
    if "model" in there:
        assert there["model"].bias is there["bias"]


def layout(value: Any) -> tuple[Any, ...]:
    """How a value lies in memory, and whether it may be changed."""
    if isinstance(value, np.ndarray):
        start, _ = np.lib.array_utils.byte_bounds(value)
        return start % 16, value.dtype, value.strides, value.flags.writeable
    return value.data_ptr() % 16, value.dtype, value.stride(), value.requires_grad


def test_rows_that_only_lie_among_each_other_bring_nothing_else_along() -> None:
    columns = np.arange(1e5).reshape(1000, 100)
    state = frozen({"first": columns[:, 0], "second": columns[:, 1]})
    assert len(state) < 20_000
    assert vars(SimpleNamespace(**pickle.loads(state)))["second"].tolist() == columns[:, 1].tolist()


def test_what_was_set_on_a_tensor_stays_with_it() -> None:
    w = torch.ones(2)
    w.note = "kept"  # type: ignore[attr-defined]  # that is the point
    assert thawed(w=w).w.note == "kept"


def test_a_tensor_is_aligned_again() -> None:
    assert thawed(odd=b"x", w=torch.ones(100)).w.data_ptr() % 64 == 0


def test_functions_without_a_name_are_kept() -> None:
    step = 3
    assert thawed(f=lambda x: x + step).f(1) == 4


def test_a_small_tensor_costs_little_more_than_its_entries() -> None:
    one, more = (len(frozen({"w": [torch.ones(8) for _ in range(n)]})) for n in (1, 101))
    assert more - one < 100 * (32 + 100)


@pytest.mark.parametrize(
    "make", [torch.ones, lambda n: nn.Parameter(torch.ones(n))], ids=["tensor", "parameter"]
)
def test_gradients_and_hooks_of_tensors_are_kept(make: Any) -> None:
    """Torch leaves them out: gradients that are summed up over rounds, and hooks that clip them."""
    w = make(2).requires_grad_()
    w.register_hook(lambda grad: grad.clamp(max=0.5))
    w.register_post_accumulate_grad_hook(lambda leaf: setattr(leaf, "grad", 2 * leaf.grad))
    w.sum().backward()
    got = thawed(w=w).w
    for one in (w, got):
        assert one.grad.tolist() == [1.0, 1.0]
        (3 * one).sum().backward()
        assert one.grad.tolist() == [3.0, 3.0]


class Counting(torch.optim.SGD):
    """An optimizer with an attribute of its own, which torch leaves out."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        return super().step(closure)


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, Counting, torch.optim.Adam])
def test_optimizers_go_on_with_their_hooks_and_parameters(kind: Any) -> None:
    w, seen = nn.Parameter(torch.ones(2)), list[float]()
    optimizer = kind([w], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    optimizer.register_step_post_hook(lambda *_: seen.append(0.0))
    mine = SimpleNamespace(w=w, seen=seen, optimizer=optimizer, scheduler=scheduler)
    stepped(mine)
    other = thawed(**vars(mine))
    stepped(other)
    stepped(mine)
    assert torch.equal(other.w, mine.w)
    assert len(other.optimizer._optimizer_step_post_hooks) == 1
    assert getattr(other.optimizer, "steps", 2) == 2
    assert other.scheduler.get_last_lr() == mine.scheduler.get_last_lr() == [0.025]


def stepped(held: SimpleNamespace) -> None:
    def loss() -> Any:
        held.optimizer.zero_grad()
        total = (held.w**2).sum()
        total.backward()
        return total

    loss()
    held.optimizer.step(loss)
    held.scheduler.step()


class Slots:
    __slots__ = ("count", "left")


class SlotsAndMore(Slots):
    """Has a dict as well."""


@pytest.mark.parametrize("kind", [Slots, SlotsAndMore])
def test_attributes_in_slots_are_taken_over(kind: Any) -> None:
    old, new = kind(), kind()
    old.count, new.count, new.left = 3, 0, 1
    if kind is SlotsAndMore:
        old.more = 5
    take_over(new, pickle.loads(frozen(attributes_of(old))))
    assert attributes_of(new) == attributes_of(old)
    assert not hasattr(new, "left")
