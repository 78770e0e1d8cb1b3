"""What nodes are owed that did not get an update, and when that has become too much."""

from __future__ import annotations

import weakref
from typing import Any

import dask
import numpy as np

from byzflow.engine.parameter_server.attendance import Attendance
from byzflow.engine.rounds.calls import Ask, Roster
from byzflow.exceptions import DeadlineError

UPDATE = "apply_server_gradient"


class Node:
    """Takes updates, but for the first few times."""

    def __init__(self, refuses: int) -> None:
        self.refuses = refuses
        self.got: list[float] = []

    def honest_gradient_for_next_batch(self) -> Any:
        return np.ones(1)

    def apply_server_gradient(self, update: Any) -> None:
        if self.refuses:
            self.refuses -= 1
            raise OSError("busy")
        self.got.append(float(update[0]))


async def run(attendance: Attendance, rounds: int) -> None:
    for round in range(rounds):
        await attendance.ask(round, {0: Ask("honest_gradient_for_next_batch")})
        update = Ask(UPDATE, (np.full(1, float(round)),))
        outcomes = await attendance.ask(round, {0: update})
        if outcomes[0].error is not None:
            attendance.owe(0, round, update)


async def test_updates_that_a_node_refuses_are_given_to_it_in_order_when_it_takes_them() -> None:
    node = Node(refuses=5)
    attendance = Attendance(Roster([node]), deadline=30.0)
    await run(attendance, 6)
    assert node.got == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert not attendance.absent


async def test_a_node_may_miss_as_many_updates_as_the_setting_says_and_no_more() -> None:
    with dask.config.set({"byzflow.round.backlog": 2}):
        attendance = Attendance(Roster([Node(0)]), deadline=30.0)
    vectors = [np.zeros(1) for _ in range(4)]
    kept = [weakref.ref(vector) for vector in vectors]
    for round in range(2):
        attendance.owe(0, round, Ask(UPDATE, (vectors[round],)))
    assert not attendance.gone
    assert attendance.absent == {0}
    for round in (2, 3):
        attendance.owe(0, round, Ask(UPDATE, (vectors[round],)))
    assert isinstance(attendance.gone[0].error, DeadlineError)
    assert "missed more than 2 updates" in str(attendance.gone[0].error)
    del vectors
    assert [vector() for vector in kept] == [None] * 4  # nothing is owed to a node that is gone
