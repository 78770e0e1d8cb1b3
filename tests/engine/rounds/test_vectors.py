"""Answers in stacks stay in them until a vector is looked at."""

from __future__ import annotations

import numpy as np
import torch

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.actor.columns import Columns
from byzflow.engine.rounds.answers import judge
from byzflow.engine.rounds.outcomes import NodeOutcomes
from byzflow.engine.rounds.vectors import Vectors, rows_of
from byzflow.kernels.sheets import Sheets

NAMES = [f"node-{i}" for i in range(8)]


def hosts(bad: int | None = None) -> NodeOutcomes:
    """Even and odd nodes sit on two hosts; node i answers (i, i), one with NaN."""
    values = [torch.full((2,), float(i)) for i in range(8)]
    if bad is not None:
        values[bad][1] = float("nan")
    return NodeOutcomes([(range(k, 8, 2), Columns(values[k::2], {})) for k in (1, 0)])


def test_rows_of_two_hosts_are_in_node_order() -> None:
    verdict = judge(hosts(), NAMES, "gradients")
    assert isinstance(verdict.vectors, Vectors)
    assert list(verdict.vectors) == list(verdict.norms) == list(range(8))
    rows = rows_of(verdict.vectors)
    assert isinstance(rows, Sheets)
    assert [int(row[0]) for row in rows] == list(range(8))
    assert len(rows.matrices) == 2


def test_a_row_that_is_unfit_is_left_out() -> None:
    verdict = judge(hosts(bad=5), NAMES, "gradients")
    assert list(verdict.vectors) == list(verdict.norms) == [0, 1, 2, 3, 4, 6, 7]
    assert list(verdict.excluded) == [5]
    assert [int(row[0]) for row in rows_of(verdict.vectors)] == [0, 1, 2, 3, 4, 6, 7]
    assert int(verdict.vectors[6][0]) == 6
    assert 5 not in verdict.vectors


def test_with_one_vector_by_itself_all_are_a_tuple() -> None:
    outcomes = NodeOutcomes([((0, 1), Columns([np.zeros(2), np.ones(2)], {})), ((2,), [Outcome(np.ones(2))])])
    vectors = judge(outcomes, NAMES, "gradients").vectors
    rows = rows_of(vectors)
    assert isinstance(rows, tuple)
    assert len(rows) == 3


def test_what_several_hold_comes_one_after_the_other() -> None:
    first = judge(hosts(bad=0), NAMES, "gradients").vectors
    rows = rows_of(first, {}, first)
    assert isinstance(rows, Sheets)
    assert [int(row[0]) for row in rows] == [*range(1, 8), *range(1, 8)]
    assert len(rows_of(first, {9: torch.ones(2)})) == 8
    assert rows_of({}) == ()
