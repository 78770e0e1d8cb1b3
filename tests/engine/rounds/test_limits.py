"""Limits of a run are refused when it is made, not in the round that first needs them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from byzflow.engine.rounds.limits import check_limits

NONE = {"deadline": None, "quorum": None, "seed": None}


@pytest.mark.parametrize(
    "limit",
    [
        {},
        {"deadline": math.inf},
        {"deadline": np.float32(0.5)},
        {"quorum": np.int64(3)},
        {"seed": 0},
        {"seed": 2**70},
    ],
)
def test_what_a_round_can_be_run_with_is_accepted(limit):
    check_limits(**{**NONE, **limit}, most=3, who="nodes")


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        ({"deadline": "5s"}, TypeError), ({"deadline": True}, TypeError), ({"deadline": 0}, ValueError),
        ({"deadline": math.nan}, ValueError), ({"quorum": 2.5}, TypeError), ({"quorum": "2"}, TypeError),
        ({"quorum": 0}, ValueError), ({"quorum": 4}, ValueError), ({"seed": "a"}, TypeError),
        ({"seed": 1.0}, TypeError), ({"seed": -1}, ValueError),
    ],
)  # fmt: skip
def test_what_it_cannot_is_refused_by_its_name(limit, error):
    with pytest.raises(error, match=next(iter(limit))):
        check_limits(**{**NONE, **limit}, most=3, who="nodes")
