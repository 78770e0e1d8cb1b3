"""One round as data: who is out, what runs, what is reported. No cluster anywhere."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from byzflow.engine.fitting import lowered
from byzflow.engine.parameter_server.plan import Cohort, RoundPlan
from byzflow.engine.parameter_server.report import RoundReport
from byzflow.engine.peer_to_peer.report import PeerReport
from byzflow.engine.rounds.answers import Exclusion, Reason
from byzflow.exceptions import DeadlineError, NodeLostError, ToleranceError


@dataclass(frozen=True)
class Outcome:
    value: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Rule:
    f: int


def vectors(indices: range, d: int = 3) -> dict[int, Outcome]:
    return {i: Outcome(np.full(d, float(i))) for i in indices}


def test_rows_are_in_node_order_whatever_the_order_of_arrival() -> None:
    plan = RoundPlan(Cohort(3, 2), 0, Rule(1))
    plan.gradients(dict(reversed(vectors(range(3)).items())))
    plan.attacks(dict(reversed(vectors(range(3, 5)).items())))
    combine = plan.combine()
    assert combine.nodes == (0, 1, 2, 3, 4)
    assert [row[0] for row in combine.rows] == [0, 1, 2, 3, 4]
    assert combine.rules == ((None, Rule(1)),)


def test_byzantine_nodes_are_shown_the_fit_honest_vectors_only() -> None:
    plan = RoundPlan(Cohort(3, 1), 0, Rule(1))
    plan.gradients({**vectors(range(3)), 1: Outcome(error=ValueError("x"))})
    assert [row[0] for row in plan.shown] == [0, 2]


def test_a_byzantine_answer_must_have_the_honest_form() -> None:
    plan = RoundPlan(Cohort(2, 2), 0, Rule(2))
    plan.gradients(vectors(range(2)))
    plan.attacks(vectors(range(2, 4), d=5))
    assert plan.combine().nodes == (0, 1)
    assert [e.reason for e in plan.excluded] == [Reason.SHAPE, Reason.SHAPE]


def test_an_exclusion_counts_against_f() -> None:
    plan = RoundPlan(Cohort(4, 1), 0, Rule(2))
    plan.gradients({**vectors(range(4)), 0: Outcome(error=NodeLostError("gone"))})
    plan.attacks({4: Outcome(error=DeadlineError())})
    combine = plan.combine()
    assert combine.nodes == (1, 2, 3)
    assert combine.rules == ((None, Rule(2)), (None, Rule(0)))


def test_too_many_exclusions_raise_and_name_the_nodes_with_reasons() -> None:
    plan = RoundPlan(Cohort(4, 1), 7, Rule(1))
    plan.gradients({**vectors(range(4)), 2: Outcome(error=ValueError("disk full"))})
    plan.attacks({4: Outcome("nonsense")})
    with pytest.raises(ToleranceError) as caught:
        plan.combine()
    text = str(caught.value)
    assert "Round 7 needs 4 fit vectors of 5 nodes; got 3" in text
    assert "honest-2 (gradients, raised: ValueError: disk full)" in text
    assert "byzantine-0 (attack, type: expected a real tensor or array, got str)" in text


def test_a_hopeless_round_stops_before_the_attack() -> None:
    plan = RoundPlan(Cohort(3, 1), 0, Rule(1))
    failures = {i: Outcome(error=ValueError("x")) for i in range(3)}
    with pytest.raises(ToleranceError, match="got 0"):
        plan.gradients(failures)


@pytest.mark.parametrize(("quorum", "fits"), [(2, True), (3, False)])
def test_the_quorum_overrides_what_the_rule_tolerates(quorum: int, fits: bool) -> None:
    plan = RoundPlan(Cohort(4, 0), 0, Rule(0), quorum=quorum)
    answers = {**vectors(range(4)), 0: Outcome(error=ValueError()), 1: Outcome(error=ValueError())}
    if fits:
        plan.gradients(answers)
        plan.attacks({})
        assert plan.combine().nodes == (2, 3)
    else:
        with pytest.raises(ToleranceError):
            plan.gradients(answers)


def test_a_failed_update_is_reported_and_does_not_stop_the_round() -> None:
    plan = RoundPlan(Cohort(2, 1), 3, Rule(1))
    plan.gradients(vectors(range(2)))
    plan.attacks(vectors(range(2, 3)))
    plan.combine()
    assert plan.applied({0: Outcome(), 1: Outcome(error=OSError("read-only"))}) == {1}
    report = plan.report(
        {"gradients": 0.1}, bytes_moved=72, weights={0: 0.25, 1: 0.25, 2: 0.5}, respawned=[1]
    )
    assert [str(e) for e in report.excluded] == ["honest-1 (apply, raised: OSError: read-only)"]
    assert report.byzantine_share == 0.5
    assert report.norms == pytest.approx((0.0, 3**0.5, 2 * 3**0.5))
    assert (report.round, report.bytes_moved, report.respawned) == (3, 72, ("honest-1",))


@pytest.mark.parametrize(("failed", "holds"), [("", True), ("1", True), ("13", False), ("0123", False)])
def test_a_round_whose_update_too_few_have_taken_has_failed(failed: str, holds: bool) -> None:
    plan = RoundPlan(Cohort(4, 1), 3, Rule(1))
    plan.gradients(vectors(range(4)))
    plan.attacks(vectors(range(4, 5)))
    plan.applied({i: Outcome(error=OSError("read-only") if str(i) in failed else None) for i in range(4)})
    failure = plan.failure()
    assert (failure is None) == holds
    if failure is not None:
        assert f"Round 3 needs 3 honest nodes that take its update; {4 - len(failed)} did" in str(failure)
        assert "honest-1 (apply, raised: OSError: read-only)" in str(failure)


def test_byzantine_nodes_that_do_not_take_an_update_are_not_missed() -> None:
    plan = RoundPlan(Cohort(1, 3), 0, Rule(3))
    plan.gradients(vectors(range(1)))
    plan.attacks(vectors(range(1, 4)))
    plan.applied({0: Outcome(), **{i: Outcome(error=OSError()) for i in range(1, 4)}})
    assert plan.failure() is None


def test_some_honest_node_has_to_take_an_update_however_few_a_round_needs() -> None:
    plan = RoundPlan(Cohort(1, 3), 0, Rule(3))
    plan.gradients(vectors(range(1)))
    plan.attacks(vectors(range(1, 4)))
    plan.applied({0: Outcome(error=OSError())})
    assert "needs 1 honest nodes that take its update; 0 did" in str(plan.failure())


def test_a_round_needs_a_vector_whatever_the_rule_tolerates() -> None:
    assert RoundPlan(Cohort(2, 0), 0, Rule(5)).quorum == 1


def test_a_node_without_the_update_and_a_state_is_left_out_for_want_of_the_update() -> None:
    plan = RoundPlan(Cohort(3, 0), 0, Rule(1))
    plan.gradients(vectors(range(3)))
    plan.applied({0: Outcome(), 1: Outcome(error=OSError()), 2: Outcome()})
    plan.unsaved({i: Exclusion(plan.cohort.names[i], "checkpoint", Reason.RAISED) for i in (1, 2)})
    assert [(e.node, e.phase) for e in plan.excluded] == [("honest-1", "apply"), ("honest-2", "checkpoint")]


def test_a_rule_without_f_lets_a_minority_go() -> None:
    plan = RoundPlan(Cohort(5, 0), 0, object())
    assert plan.quorum == 3


def test_lowering_leaves_what_has_no_f_alone() -> None:
    thing = object()
    assert lowered(thing, 2) is thing
    assert lowered(Rule(1), 3) == Rule(0)


@pytest.mark.parametrize("kind", [RoundReport, PeerReport])
@pytest.mark.parametrize("again", [lambda it: pickle.loads(pickle.dumps(it)), copy.deepcopy])
def test_reports_can_be_pickled_copied_and_hashed_and_stay_frozen(kind: Any, again: Any) -> None:
    told = Exclusion("honest-0", "gradients", Reason.RAISED, "oops")
    report = kind(3, ("honest-0",), 1, seconds=MappingProxyType({"attack": 0.5}), excluded=(told,))
    other = again(report)
    assert other == report
    assert other is not report
    assert {report: "kept"}[other] == "kept"
    with pytest.raises(TypeError):
        other.seconds["attack"] = 1.0
