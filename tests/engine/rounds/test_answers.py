"""Answers of nodes: what is taken, what is refused, and with which reason."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from byzflow.engine.parameter_server.plan import Cohort, RoundPlan
from byzflow.engine.peer_to_peer.letters import Letters
from byzflow.engine.rounds.answers import Exclusion, Reason, judge
from byzflow.engine.rounds.forms import digest_of, norm_of
from byzflow.exceptions import DeadlineError, NodeLostError
from tests.engine.rounds.malformed import VALUES, BitingTensor, malformed


@dataclass(frozen=True)
class Outcome:
    value: Any = None
    error: BaseException | None = None


GOOD = [Outcome(torch.full((3,), float(i))) for i in range(4)]
NAMES = [f"node-{i}" for i in range(5)]


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome(error=ValueError("no")), Reason.RAISED),
        (Outcome(error=KeyboardInterrupt()), Reason.RAISED),
        (Outcome(error=NodeLostError("worker gone")), Reason.LOST),
        (Outcome(error=TimeoutError()), Reason.RAISED),
        (Outcome(error=DeadlineError()), Reason.DEADLINE),
        (Outcome(None), Reason.TYPE),
        (Outcome("vector"), Reason.TYPE),
        (Outcome([1.0, 2.0, 3.0]), Reason.TYPE),
        (Outcome({"vector": torch.zeros(3)}), Reason.TYPE),
        (Outcome(np.zeros(3, dtype=np.float32)), Reason.TYPE),
        (Outcome(torch.zeros(3, dtype=torch.complex64)), Reason.TYPE),
        (Outcome(torch.zeros(3).to_sparse()), Reason.TYPE),
        (Outcome(np.array([None, None, None])), Reason.TYPE),
        (Outcome(torch.zeros(3, dtype=torch.float64)), Reason.DTYPE),
        (Outcome(torch.zeros(3, dtype=torch.int64)), Reason.DTYPE),
        (Outcome(torch.zeros(4)), Reason.SHAPE),
        (Outcome(torch.zeros(1, 3)), Reason.SHAPE),
        (Outcome(torch.zeros(0)), Reason.SHAPE),
        (Outcome(torch.tensor([0.0, float("nan"), 0.0])), Reason.NONFINITE),
        (Outcome(torch.full((3,), float("-inf"))), Reason.NONFINITE),
        (Outcome(torch.tensor([float("inf"), float("-inf"), 0.0])), Reason.NONFINITE),
    ],
)
def test_a_bad_answer_is_excluded_with_its_reason(outcome: Outcome, reason: Reason) -> None:
    verdict = judge(dict(enumerate([outcome, *GOOD])), NAMES, "gradients")
    assert sorted(verdict.vectors) == [1, 2, 3, 4]
    assert verdict.excluded[0].reason is reason
    assert str(verdict.excluded[0]).startswith("node-0 (gradients, ")


def test_the_majority_decides_the_form_and_the_first_node_does_not() -> None:
    verdict = judge({0: Outcome(torch.zeros(7)), 1: GOOD[0], 2: GOOD[1]}, NAMES, "gradients")
    assert verdict.signature == digest_of(torch.zeros(3)).signature
    assert verdict.excluded == {
        0: Exclusion("node-0", "gradients", Reason.SHAPE, "expected (3,), got (7,)"),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_huge_finite_vector_is_fit_and_has_a_finite_norm(dtype: torch.dtype) -> None:
    assert norm_of(torch.full((4,), 1e38, dtype=dtype)) == pytest.approx(2e38, rel=1e-2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_norms_of_numpy_vectors_agree_with_numpy(dtype: type) -> None:
    vector = np.arange(7).astype(dtype)
    assert norm_of(vector) == pytest.approx(np.linalg.norm(vector.astype(float)))
    assert norm_of(np.full(4, 1e300)) == pytest.approx(2e300)


def test_gradients_are_taken_without_their_graph_and_subclass() -> None:
    leaf = torch.nn.Parameter(torch.ones(3))
    verdict = judge({0: Outcome(leaf)}, NAMES, "gradients")
    assert type(verdict.vectors[0]) is torch.Tensor
    assert not verdict.vectors[0].requires_grad


def test_an_empty_phase_has_no_form() -> None:
    assert judge({}, NAMES, "gradients").signature is None


def test_a_zero_length_vector_is_fit_among_its_like() -> None:
    assert sorted(judge({0: Outcome(torch.zeros(0)), 1: Outcome(np.zeros(0))}, NAMES, "g").vectors) == [0]


def test_ten_thousand_malformed_answers_are_exclusions_with_reasons():
    rng = np.random.default_rng(2024)
    rule = SimpleNamespace(f=4)
    for number in range(1250):
        answers = dict(enumerate(GOOD[:3]))
        answers |= {i: Outcome(*malformed(rng)) for i in range(3, 11)}
        plan = RoundPlan(Cohort(7, 4), number, rule, quorum=3)
        plan.gradients({i: answers[i] for i in plan.cohort.honest})
        plan.attacks({i: answers[i] for i in plan.cohort.byzantine})
        assert plan.combine().nodes == (0, 1, 2)
        assert len(plan.excluded) == 8
        assert all(len(exclusion.detail) < 500 and "\n" not in str(exclusion) for exclusion in plan.excluded)


@pytest.mark.parametrize("draw", VALUES)
def test_peers_refuse_what_the_server_refuses(draw):
    letters = Letters(["honest-0", "byzantine-0"])
    letters.post(0, GOOD[0], "half-step")
    letters.post(1, Outcome(draw(np.random.default_rng(0))), "attack")
    assert letters.fit((1,), 0) == ()
    assert [exclusion.node for exclusion in letters.excluded] == ["byzantine-0"]


@pytest.mark.parametrize(
    "vector",
    [
        torch.ones(3, requires_grad=True),
        torch.nn.Parameter(torch.ones(3)),
        torch.ones(6)[::2],
        torch.ones(1).expand(3),
        torch._neg_view(-torch.ones(3)),
        torch.ones(3).as_subclass(BitingTensor),
    ],
)
def test_what_holds_the_right_numbers_is_taken_however_it_is_wrapped(vector):
    verdict = judge({0: GOOD[0], 1: Outcome(vector)}, NAMES, "attack")
    taken = verdict.vectors[1]
    assert type(taken) is torch.Tensor
    assert not taken.requires_grad
    assert taken.tolist() == [1.0, 1.0, 1.0]
    assert verdict.norms[1] == pytest.approx(3**0.5)
