"""What a node gives as its state: plain values alone, whatever it was."""

from __future__ import annotations

import enum
import pickle
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch

from byzflow.engine.rounds.forms import digest_of
from byzflow.engine.rounds.plain import plain
from byzflow.exceptions import CheckpointError

Pair = namedtuple("Pair", "a b")


class Level(enum.IntEnum):
    LOW = 3


class Text(str):
    __slots__ = ()


class Row(np.ndarray):
    pass


CASES: list[tuple[Any, Any]] = [
    (OrderedDict(w=1), {"w": 1}),
    ({Text("key"): [Pair(1, Text("b"))]}, {"key": [(1, "b")]}),
    (Level.LOW, 3),
    (np.float64(0.5), 0.5),
    (bytearray(b"x"), b"x"),
    (np.int16(2), np.array(2, dtype=np.int16)),
    (np.ones((2, 3))[:, ::2].view(Row), np.ones((2, 2))),
    (torch.nn.Parameter(torch.ones(2)), torch.ones(2)),
    (torch.arange(6).reshape(2, 3).T, torch.arange(6).reshape(2, 3).T),
    (torch.zeros(0, dtype=torch.bfloat16), torch.zeros(0, dtype=torch.bfloat16)),
]


def kinds(value: Any) -> set[type]:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    inner = [kinds(item) for item in value] if isinstance(value, list | tuple) else []
    return {type(value)}.union(*inner)


@pytest.mark.parametrize(("given", "expected"), CASES, ids=lambda case: type(case).__name__)
def test_subclasses_become_what_they_derive_from(given: Any, expected: Any) -> None:
    got = plain(given)
    assert repr(got) == repr(expected)
    allowed = {dict, list, tuple, int, float, str, bytes, np.ndarray, torch.Tensor}
    assert kinds(got) <= allowed
    assert not getattr(got, "requires_grad", False)
    assert repr(pickle.loads(pickle.dumps(got))) == repr(expected)


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, np.array(["x"]), torch.ones(2).to_sparse(), torch.empty(2, device="meta"), 1j],
    ids=lambda value: type(value).__name__,
)
def test_what_no_file_holds_is_refused_by_its_place(value: Any) -> None:
    with pytest.raises(CheckpointError, match="state/w/1 is a"):
        plain({"w": [0, value]})


def test_what_hangs_on_a_tensor_stays_behind() -> None:
    tensor = torch.ones(2)
    tensor.own = object()  # type: ignore[attr-defined]  # a node may hang anything on it
    assert vars(plain({"w": tensor})["w"]) == {}
    assert vars(digest_of(tensor).row) == {}
