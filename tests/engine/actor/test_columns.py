"""Outcomes in columns are the outcomes one by one, on either side of a wire."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
import torch

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.actor.columns import Columns
from byzflow.engine.actor.parcel import Parcel
from byzflow.engine.actor.sendable import portable, sendable


def nested() -> torch.Tensor:
    with warnings.catch_warnings(action="ignore"):
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(1)])


VALUES = [
    torch.ones(3),
    np.ones(3),
    None,
    torch.zeros(3),
    torch.zeros(3, requires_grad=True),
    nested(),
    np.zeros(3),
    torch.zeros(3, dtype=torch.bfloat16),
    torch.ones(3, dtype=torch.bfloat16),
    torch.zeros(0),
    torch.zeros(0),
    "text",
    None,
]
ERRORS = {12: ValueError("no")}


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor | np.ndarray):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    return a is b


@pytest.mark.parametrize("open_", [lambda columns: columns, lambda columns: Parcel(columns).sealed().open()])
def test_every_value_is_what_it_was_and_where_it_was(open_) -> None:
    values = [value for value in VALUES if not (isinstance(value, torch.Tensor) and value.is_nested)]
    columns = open_(Columns(values, {}))
    assert len(columns) == len(values)
    for outcome, value in zip(columns, values, strict=True):
        assert same(outcome.value, value) or value == outcome.value
        assert outcome.error is None


def test_small_arrays_of_one_form_are_one_array() -> None:
    columns = Columns(VALUES, ERRORS)
    assert [at for at, _ in columns.stacks] == [[0, 3], [1, 6], [7, 8]]
    assert columns.others.keys() == {4, 5, 9, 10, 11}


def test_a_stack_shares_no_memory_with_what_was_put_in() -> None:
    values = [np.zeros(2), np.zeros(2)]
    columns = Columns(values, {})
    values[0][:] = 7.0
    assert columns[0].value.tolist() == [0.0, 0.0]


def test_an_error_stands_at_its_place() -> None:
    columns = Columns.of([Outcome(1), Outcome(error=ERRORS[12], said="no")])
    assert columns[-1] == Outcome(error=ERRORS[12], said="no")
    assert columns[:1] == [Outcome(1)]
    with pytest.raises(IndexError):
        columns[2]


def test_what_cannot_travel_costs_the_others_nothing() -> None:
    class OddError(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__("odd")

    values = [np.zeros(2), threading.Lock(), np.ones(2), None]
    got = sendable(Columns(values, {3: portable(OddError(1, 2))})).open()
    assert got[2].value.tolist() == [1.0, 1.0]
    assert isinstance(got[1].error, TypeError)
    assert isinstance(got[3].error, RuntimeError)
    assert "odd" in str(got[3].error)
