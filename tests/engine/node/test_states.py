from typing import Any

import pytest
import torch

from byzflow.engine.node.states import frozen_state, thawed_state


def marked() -> torch.Tensor:
    tensor = torch.ones(2)
    tensor.mark = "kept"
    return tensor


TENSORS = {
    "plain": torch.arange(6.0).reshape(2, 3),
    "number": torch.tensor(3),
    "empty": torch.empty(0, 4),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "part": torch.arange(6.0)[1:3],
    "spread": torch.ones(1).expand(4),
    "learned": torch.ones(2, requires_grad=True),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "negative": torch._neg_view(torch.ones(2)),
    "sparse": torch.eye(2).to_sparse(),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_comes_back_as_it_was(name: str) -> None:
    before = TENSORS[name]
    after = thawed_state(frozen_state({"x": before}))["x"]
    assert type(after) is type(before)
    assert (after.dtype, after.shape, after.layout) == (before.dtype, before.shape, before.layout)
    assert after.requires_grad == before.requires_grad
    assert before.is_sparse or after.stride() == before.stride()
    assert torch.equal(after.to_dense(), before.to_dense())


def test_what_was_put_on_a_tensor_stays_there() -> None:
    assert thawed_state(frozen_state({"x": marked()}))["x"].mark == "kept"


def test_one_tensor_under_two_names_is_one_again() -> None:
    shared = torch.ones(2)
    after: dict[str, Any] = thawed_state(frozen_state({"a": shared, "b": [shared]}))
    assert after["a"] is after["b"][0]


def test_changing_what_came_back_leaves_the_state_alone() -> None:
    state = frozen_state({"x": torch.ones(10**5)})
    thawed_state(state)["x"].zero_()
    assert thawed_state(state)["x"].sum() == 10**5
