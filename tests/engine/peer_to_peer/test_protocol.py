"""One round as instructions and what came of them: lists are compared, nothing is called."""

from __future__ import annotations

import random

import numpy as np
import pytest

from byzflow.engine.peer_to_peer.letters import Came
from byzflow.engine.peer_to_peer.messages import Aggregate, Forge, HalfStep
from byzflow.engine.peer_to_peer.protocol import PeerRound
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.exceptions import DeadlineError, NodeLostError, ToleranceError


def vector(value=0.0, size=2):
    return Came(np.full(size, float(value)))


def half_steps(peers, *nodes):
    """Let nodes answer with their own index; return everything that was instructed."""
    return [new for i in nodes for new in peers.handle({HalfStep(i): vector(i)})]


def test_every_honest_node_is_asked_first():
    peers = PeerRound(Topology.complete(4), n_honest=3)
    assert peers.start() == [HalfStep(0), HalfStep(1), HalfStep(2)]


def test_a_node_aggregates_as_soon_as_its_own_neighborhood_is_in():
    peers = PeerRound(Topology(4, [(0, 1), (1, 0), (2, 3), (3, 2)]), n_honest=4)
    peers.start()
    assert half_steps(peers, 2, 0) == []
    assert half_steps(peers, 3) == [Aggregate(2, (3,)), Aggregate(3, (2,))]
    assert half_steps(peers, 1) == [Aggregate(0, (1,)), Aggregate(1, (0,))]


def test_senders_stand_in_node_order_whatever_the_order_of_arrival():
    peers = PeerRound(Topology.complete(4), n_honest=4)
    peers.start()
    assert half_steps(peers, 3, 1, 0) == []
    assert half_steps(peers, 2)[2] == Aggregate(2, (0, 1, 3))


def test_byzantine_nodes_answer_after_all_honest_ones_and_hear_in_neighbors_only():
    topology = Topology(4, [(0, 3), (3, 1), (0, 1), (1, 2), (2, 0)])
    peers = PeerRound(topology, n_honest=3)
    peers.start()
    assert half_steps(peers, 0, 1) == []
    assert half_steps(peers, 2) == [Aggregate(0, (2,)), Aggregate(2, (1,)), Forge(3)]
    assert peers.heard(3) == (0,)
    assert peers.handle({Forge(3): vector(9)}) == [Aggregate(1, (0, 3))]
    assert peers.letters.vectors([3], 1)[0][0] == 9


def test_an_equivocal_node_is_asked_once_per_receiver_and_each_gets_its_own():
    peers = PeerRound(Topology.complete(3), n_honest=2, equivocal={2})
    peers.start()
    assert half_steps(peers, 0, 1) == [Forge(2, 0), Forge(2, 1)]
    assert peers.handle({Forge(2, 1): vector(7)}) == [Aggregate(1, (0, 2))]
    assert peers.handle({Forge(2, 0): vector(5)}) == [Aggregate(0, (1, 2))]
    assert [peers.letters.vectors([2], i)[0][0] for i in (0, 1)] == [5, 7]


def test_a_byzantine_node_without_honest_receivers_is_not_asked():
    peers = PeerRound(Topology(3, [(0, 1), (1, 0), (0, 2)]), n_honest=2)
    peers.start()
    assert half_steps(peers, 0, 1) == [Aggregate(0, (1,)), Aggregate(1, (0,))]


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Came(error=ZeroDivisionError("oops")), "raised: ZeroDivisionError: oops"),
        (Came(error=NodeLostError("worker gone")), "lost: worker gone"),
        (Came(error=DeadlineError("too slow")), "deadline: too slow"),
        (Came("text"), "type"),
        (Came(np.array([np.inf, 0.0])), "non-finite"),
    ],
)
def test_a_node_without_a_fit_half_step_is_left_out_with_its_reason(outcome, reason):
    peers = PeerRound(Topology.complete(3), n_honest=3)
    peers.start()
    half_steps(peers, 0, 1)
    assert peers.handle({HalfStep(2): outcome}) == [Aggregate(0, (1,)), Aggregate(1, (0,))]
    assert [(e.node, e.phase) for e in peers.excluded] == [("honest-2", "half-step")]
    assert reason in str(peers.excluded[0])


@pytest.mark.parametrize(
    ("liar", "reason"),
    [
        (vector(size=3), "shape"),
        (Came(np.zeros(2, dtype=np.float32)), "dtype"),
    ],
)
def test_a_vector_of_another_form_is_refused_by_every_receiver(liar, reason):
    peers = PeerRound(Topology.complete(3), n_honest=2)
    peers.start()
    half_steps(peers, 0, 1)
    assert peers.handle({Forge(2): liar}) == [Aggregate(0, (1,)), Aggregate(1, (0,))]
    (exclusion,) = peers.excluded
    assert (exclusion.node, exclusion.phase, exclusion.reason) == ("byzantine-0", "exchange", reason)
    assert "refused by 2 nodes" in exclusion.detail


def test_a_majority_of_liars_cannot_choose_the_form():
    peers = PeerRound(Topology.complete(6), n_honest=2)
    peers.start()
    half_steps(peers, 0, 1)
    new = [task for byz in range(2, 6) for task in peers.handle({Forge(byz): vector(size=5)})]
    assert new == [Aggregate(0, (1,)), Aggregate(1, (0,))]


def test_a_second_and_a_late_answer_are_ignored():
    peers = PeerRound(Topology.complete(2), n_honest=2)
    peers.start()
    half_steps(peers, 0)
    assert peers.handle({HalfStep(0): vector(99)}) == []
    assert half_steps(peers, 1) == [Aggregate(0, (1,)), Aggregate(1, (0,))]
    assert peers.letters.vector(0)[0] == 0
    assert peers.handle({Aggregate(0, (1,)): vector()}) == []
    assert peers.handle({Aggregate(0, (1,)): Came(error=ValueError("late"))}) == []
    assert peers.excluded == ()


def test_a_deadline_closes_what_was_asked_and_nothing_else():
    peers = PeerRound(Topology.complete(4), n_honest=3)
    asked, late = peers.start(), Came(error=DeadlineError("no answer before the deadline"))
    half_steps(peers, 0, 1)
    assert peers.handle(dict.fromkeys(asked, late)) == [Forge(3)]
    assert [str(e) for e in peers.excluded] == [
        "honest-2 (half-step, deadline: no answer before the deadline)"
    ]
    assert half_steps(peers, 2) == []
    assert peers.handle({Forge(3): late}) == [Aggregate(0, (1,)), Aggregate(1, (0,))]


def test_a_node_without_in_neighbors_keeps_its_half_step_and_is_through():
    peers = PeerRound(Topology(2, [(0, 1)]), n_honest=2)
    peers.start()
    assert half_steps(peers, 0, 1) == [Aggregate(1, (0,))]
    assert peers.through == (0,)
    peers.handle({Aggregate(1, (0,)): vector()})
    assert peers.through == (0, 1)
    assert peers.failure() is None


def test_no_half_step_at_all_is_a_tolerance_error_that_carries_the_first_cause():
    peers = PeerRound(Topology.complete(2), n_honest=2)
    peers.start()
    peers.handle({HalfStep(0): Came(error=ZeroDivisionError("first"))})
    with pytest.raises(ToleranceError, match=r"honest-0 .*first.*honest-1 .*second") as caught:
        peers.handle({HalfStep(1): Came(error=ZeroDivisionError("second"))})
    assert str(caught.value.__cause__) == "first"


def test_too_few_half_steps_for_the_quorum_stop_the_round_early():
    peers = PeerRound(Topology.complete(3), n_honest=3, quorum=3)
    peers.start()
    half_steps(peers, 0, 1)
    with pytest.raises(ToleranceError, match=r"needs 3 of 3 honest nodes; 2 came through"):
        peers.handle({HalfStep(2): Came(error=NodeLostError("gone"))})


def _through_with_one_refusal(quorum):
    peers = PeerRound(Topology.complete(3), n_honest=3, quorum=quorum)
    peers.start()
    mixing = half_steps(peers, 0, 1, 2)
    refused = Came(error=ToleranceError("f=2 is too many"))
    assert peers.handle(dict(zip(mixing, (vector(), vector(), refused), strict=True))) == []
    assert not peers.pending
    return peers


def test_a_rule_that_cannot_run_fails_the_round_and_is_named():
    failure = _through_with_one_refusal(None).failure()
    assert isinstance(failure, ToleranceError)
    assert "honest-2 (aggregation, raised: ToleranceError: f=2 is too many)" in str(failure)


def test_a_quorum_lets_the_round_stand_without_the_node_whose_rule_cannot_run():
    peers = _through_with_one_refusal(2)
    assert peers.failure() is None
    assert peers.through == (0, 1)
    assert isinstance(_through_with_one_refusal(3).failure(), ToleranceError)


def test_a_node_that_fails_to_aggregate_for_another_reason_is_only_left_out():
    peers = PeerRound(Topology.complete(2), n_honest=2)
    peers.start()
    half_steps(peers, 0, 1)
    peers.handle({Aggregate(0, (1,)): Came(error=RuntimeError("disk full")), Aggregate(1, (0,)): vector()})
    assert peers.failure() is None
    assert "disk full" in str(peers.excluded[0])


def test_norms_are_those_of_what_was_sent():
    peers = PeerRound(Topology.complete(3), n_honest=2, equivocal={2})
    peers.start()
    half_steps(peers, 0, 1)
    peers.handle({Forge(2, 0): Came(np.array([3.0, 4.0]))})
    peers.handle({Forge(2, 1): Came(error=KeyError("x"))})
    assert peers.letters.norms == (0.0, pytest.approx(2**0.5), 5.0)


def test_all_rounds_of_a_run_have_the_same_names():
    first, second = (PeerRound(Topology.complete(3), n_honest=2, number=t) for t in range(2))
    assert first.letters.names == ("honest-0", "honest-1", "byzantine-0")
    assert first.letters.names is second.letters.names


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_answers_and_any_part_of_them_at_once_lead_to_the_same_aggregations(seed):
    topology = Topology.erdos_renyi(8, 0.5, seed=seed, directed=True)

    def play(order, most=1):
        peers = PeerRound(topology, n_honest=6, equivocal={7})
        todo, aggregations = peers.start(), set()
        while todo:
            tasks = [
                todo.pop(order.randrange(len(todo)) if order else 0) for _ in range(min(most, len(todo)))
            ]
            aggregations.update(task for task in tasks if isinstance(task, Aggregate))
            todo += peers.handle(
                {task: Came("junk") if task == HalfStep(3) else vector(task.node) for task in tasks}
            )
        assert not peers.pending
        return aggregations, peers.through, peers.excluded

    assert play(random.Random(seed)) == play(random.Random(seed), 3) == play(None, 99) == play(None)
