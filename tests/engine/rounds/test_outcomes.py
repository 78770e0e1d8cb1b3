"""Judging answers in columns comes to the same as judging them one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.actor.columns import Columns
from byzflow.engine.rounds.answers import judge
from byzflow.engine.rounds.forms import norm_of, norms_of
from byzflow.engine.rounds.outcomes import NodeOutcomes

NAMES = [f"node-{i}" for i in range(12)]
VALUES = [
    torch.ones(3),
    torch.zeros(4),
    torch.tensor([1.0, float("nan"), 0.0]),
    torch.zeros(4),
    torch.tensor([3e38, 3e38, 3e38]),
    torch.zeros(3, dtype=torch.complex64),
    torch.ones(3, dtype=torch.complex64),
    torch.arange(3.0),
    torch.tensor([1.0, float("-inf"), 0.0]),
    None,
    "text",
    None,
]
ERRORS = {11: ValueError("no")}


def columns_by_host() -> NodeOutcomes:
    """Even and odd nodes sit on two hosts."""
    parts = []
    for first in (1, 0):
        indices = range(first, 12, 2)
        errors = {11 // 2: ERRORS[11]} if first else {}
        parts.append((indices, Columns([VALUES[i] for i in indices], errors)))
    return NodeOutcomes(parts)


def test_columns_and_records_get_one_verdict() -> None:
    records = {i: Outcome(value, ERRORS.get(i)) for i, value in enumerate(VALUES)}
    a, b = judge(columns_by_host(), NAMES, "gradients"), judge(records, NAMES, "gradients")
    assert (a.signature, a.norms, a.excluded) == (b.signature, b.norms, b.excluded)
    assert list(a.vectors) == list(b.vectors) == [0, 4, 7]
    assert list(a.excluded) == list(b.excluded)
    assert all(torch.equal(a.vectors[i], b.vectors[i]) for i in a.vectors)


def test_of_two_forms_equally_often_the_one_of_the_lowest_node_is_right() -> None:
    hosts = [((1, 2), Columns([np.zeros(2)] * 2, {})), ((0, 3), Columns([np.zeros(3)] * 2, {}))]
    assert judge(NodeOutcomes(hosts), NAMES, "gradients").signature.shape == (3,)


def test_outcomes_are_in_node_order_whatever_the_host() -> None:
    outcomes = columns_by_host()
    assert list(outcomes) == list(range(12))
    assert list(outcomes.errors) == [11]
    assert outcomes[7].value.tolist() == [0.0, 1.0, 2.0]
    assert NodeOutcomes.of(outcomes) is outcomes


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("d", [1, 3, 1000, 4001])
def test_a_norm_has_the_same_bits_alone_and_in_a_stack(dtype: Any, d: int) -> None:
    rows = (np.random.default_rng(0).standard_normal((7, d)) * 10).astype(dtype)
    apart = np.repeat(rows, 2, axis=1)[:, ::2]
    shifted = np.frombuffer(bytearray(dtype().itemsize) + rows.tobytes(), dtype=dtype)[1:].reshape(rows.shape)
    norms = norms_of(rows)
    assert norms == [norm_of(row) for row in apart] == norms_of(shifted)
    assert norms == norms_of(torch.from_numpy(rows)) == [norm_of(torch.from_numpy(row)) for row in rows]
