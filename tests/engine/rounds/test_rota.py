"""When the states of nodes are saved."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.rounds.rota import HEAVY, Rota
from byzflow.exceptions import DeadlineError, NodeLostError


def saved(rota: Rota, size: int, rounds: int) -> list[list[int]]:
    found = []
    for number in range(rounds):
        due = rota.due(number)
        rota.saved(number, dict.fromkeys(due, size))
        found.append(due)
    return found


def test_light_states_are_saved_at_once() -> None:
    found = saved(Rota(nodes=4, every=3), HEAVY // 4, 7)
    assert found == [[0, 1, 2, 3], [], [], [0, 1, 2, 3], [], [], [0, 1, 2, 3]]


@pytest.mark.parametrize(("nodes", "every"), [(13, 25), (13, 5), (1, 25), (100, 7), (5, 1)])
def test_heavy_states_are_saved_in_turns(nodes: int, every: int) -> None:
    first, *rest = saved(Rota(nodes, every), HEAVY + 1, 4 * every + 1)
    assert first == list(range(nodes))
    assert max(map(len, rest)) <= -(-nodes // every)
    for start in range(0, 3 * every + 1):  # any so many rounds in a row have everybody once
        assert set(Counter(node for due in rest[start : start + every] for node in due).values()) == {1}


def test_no_round_is_done_twice_and_those_asked_for_come_first() -> None:
    rota = Rota(nodes=4, every=4)
    rota.saved(0, dict.fromkeys(rota.due(0), HEAVY))
    assert rota.due(1, also=[2]) == [2, 0]
    rota.saved(1, {2: HEAVY, 0: HEAVY})
    assert rota.due(1, also=[3]) == []
    assert [rota.due(2), rota.due(3)] == [[1], [1]]


def test_nodes_without_a_state_are_named_once_with_the_reason(caplog: Any) -> None:
    """Nothing else says so, until the worker is gone and they with it."""
    rota, names = Rota(5, every=2), [f"honest-{i}" for i in range(5)]
    bad = TypeError("cannot pickle 'generator' object")
    for errors in (
        [None, bad, bad, NodeLostError("gone"), None],
        [None, bad, bad, bad, DeadlineError("late")],
    ):
        rota.refused({i: Outcome(error=error) for i, error in enumerate(errors)}, names)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(
        "honest-1 and 1 more will be lost with the worker: no state can be kept (TypeError: cannot"
    )
    assert second.startswith("honest-3 will be lost")


def test_what_becomes_of_a_node_without_a_state_is_said_again_when_it_changes(caplog: Any) -> None:
    rota = Rota(2, every=2)
    refusals = dict.fromkeys(range(2), Outcome(error=TypeError("cannot pickle")))
    for replayed in ({0}, {0}, set[int](), set[int]()):
        rota.refused(refusals, ["honest-0", "honest-1"], replayed)
    said = [record.getMessage().split(" (")[0] for record in caplog.records]
    assert [text[:24] for text in said] == [
        "honest-0 will be made an",
        "honest-1 will be lost wi",
        "honest-0 will be lost wi",
    ]
