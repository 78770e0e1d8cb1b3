from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from byzflow.engine.rounds.attributes import frozen

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
