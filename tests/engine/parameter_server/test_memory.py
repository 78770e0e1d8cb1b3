"""What could bring nodes back is kept for as long as they can come back, and no longer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import dask
import numpy as np
import pytest

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.parameter_server.memory import FEW, Memory
from byzflow.engine.parameter_server.plan import Cohort
from byzflow.engine.rounds.calls import Ask
from byzflow.engine.rounds.outcomes import NodeOutcomes
from byzflow.exceptions import DeadlineError, NodeLostError

EVERY, LOST = 2, 1


class FakeRoster:
    """Two nodes in other processes, one of which can be lost."""

    def __init__(self) -> None:
        self.lost: set[int] = set()
        self.raised: dict[int, Exception] = {}

    def is_away(self, index: int) -> bool:
        return True

    def untouched(self, indices: Any) -> set[int]:
        return set()

    def seat(self, index: int) -> Any:
        return SimpleNamespace(object_id=str(index))

    async def call(self, calls: Any, deadline: Any) -> dict[int, Outcome]:
        state = np.zeros(1, dtype=np.uint8)
        gone = NodeLostError("gone")
        return {i: Outcome(error=gone) if i in self.lost else Outcome(state) for i in calls}

    async def ask(self, round: int, asks: Any, deadline: Any) -> NodeOutcomes:
        return NodeOutcomes.of({i: Outcome(error=self.raised.get(i)) for i in asks})


async def memory_after(rounds: int, given_up: bool) -> Memory:
    roster: Any = FakeRoster()
    memory = Memory(roster, Cohort(2, 0), EVERY, Ask("gradient"))
    await memory.keep(0, None)
    roster.lost = {LOST}
    if given_up:
        memory.drop([LOST])
    for round in range(rounds):
        await memory.keep(round, None)
        memory.applied(round, Ask("update", (np.zeros(2),)))
    return memory


class Mute(FakeRoster):
    """Nodes that give no state."""

    def __init__(self, untouched: bool, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error or TypeError("cannot pickle")
        self.made = {0, 1} if untouched else set()

    def untouched(self, indices: Any) -> set[int]:
        made, self.made = self.made, set()
        return made

    async def call(self, calls: Any, deadline: Any) -> dict[int, Outcome]:
        return {i: Outcome(error=self.error) for i in calls}


async def test_a_node_that_gives_no_state_is_named(caplog: Any) -> None:
    roster: Any = Mute(untouched=False)
    memory = Memory(roster, Cohort(1, 1), EVERY, Ask("gradient"))
    await memory.keep(0, None)
    assert not memory.knows(0)
    assert "honest-0 and 1 more will be lost with the worker" in caplog.text


async def test_a_node_that_gives_no_state_is_replayed_while_the_updates_are_not_too_many(caplog: Any) -> None:
    roster: Any = Mute(untouched=True)
    with dask.config.set({"byzflow.round.replay-memory": "11 kiB"}):
        memory = Memory(roster, Cohort(1, 1), EVERY, Ask("gradient"))
    known, lacking = [], []
    for round in range(14):
        await memory.keep(round, None)
        assert memory.light(1 << 30) == frozenset()
        known.append(memory.knows(0))
        lacking.append(memory.lacks(0) if known[-1] else 0)
        past = memory.past(0, round, decided=False, update_byz=True) if known[-1] else ()
        assert len(past) == 2 * round * known[-1]
        memory.attacked(round, {}, (Ask("lie", ((np.zeros(2),),)),))
        memory.applied(round, Ask("update", (np.zeros(2),)))
    assert known == [True] * 12 + [False] * 2  # 1,040 bytes each
    assert max(lacking) <= 0  # none has been gone
    first, last = (record.getMessage() for record in caplog.records)
    assert first.startswith("honest-0 and 1 more will be made anew if the worker is lost")
    assert last.startswith("honest-0 and 1 more will be lost with the worker")
    assert not memory._updates


async def test_a_node_that_is_late_with_its_state_is_kept_as_it_was(caplog: Any) -> None:
    roster: Any = FakeRoster()
    memory = Memory(roster, Cohort(2, 0), EVERY, Ask("gradient"))
    await memory.keep(0, None)
    roster.call = Mute(untouched=False, error=DeadlineError("late")).call
    for round in range(EVERY):
        memory.applied(round, Ask("update", (np.zeros(2),)))
    await memory.keep(EVERY, None)
    assert len(memory.past(0, EVERY, decided=False, update_byz=False)) == 2 * EVERY
    assert caplog.text == ""


async def test_updates_are_kept_for_a_lost_node_that_may_come_back() -> None:
    memory = await memory_after(10, given_up=False)
    assert memory.knows(LOST)
    assert memory.lacks(LOST) == 10 - EVERY


async def test_nothing_is_kept_for_a_node_that_was_given_up() -> None:
    memory = await memory_after(10, given_up=True)
    assert not memory.knows(LOST)
    assert len(memory._updates) <= EVERY


async def test_a_node_that_raises_again_what_it_raised_has_caught_up_but_not_one_that_hangs() -> None:
    roster: Any = FakeRoster()
    memory = Memory(roster, Cohort(2, 0), EVERY, Ask("gradient"))
    await memory.keep(0, None)
    memory.applied(0, Ask("update", (np.zeros(2),)))
    roster.raised = {0: TimeoutError("no data in time"), 1: DeadlineError("it is still running")}
    assert set(await memory.catch_up([0, 1], 1, None, decided=False, update_byz=True)) == {1}


async def test_a_node_that_is_absent_is_left_as_it_was_kept() -> None:
    roster: Any = FakeRoster()
    memory = Memory(roster, Cohort(2, 0), EVERY, Ask("gradient"))
    await memory.keep(0, None)
    for round in range(EVERY):
        memory.applied(round, Ask("update", (np.zeros(2),)))
    await memory.keep(EVERY, None, absent={LOST})  # it lacks the last update, and would be saved without it
    past = memory.past(LOST, EVERY, decided=False, update_byz=False)
    assert [round for round, ask in past if ask.method == "update"] == list(range(EVERY))
    assert memory.past(0, EVERY, decided=False, update_byz=False) == []


async def test_states_are_saved_with_attacks_if_they_are_as_large_as_a_few_vectors() -> None:
    roster: Any = FakeRoster()
    memory = Memory(roster, Cohort(1, 1), EVERY, Ask("gradient"))
    await memory.keep(0, None)
    nbytes = 1 << 20
    assert memory.light(nbytes) == {1}
    memory.attacked(0, {1: np.zeros(FEW * nbytes, dtype=np.uint8)})
    assert memory.light(nbytes) == {1}
    assert memory.light(nbytes - 1) == frozenset()


async def with_a_heavy_liar(budget: int) -> Memory:
    """Return a memory after two attacks of a node that is not saved with them, which were shown 16 bytes."""
    with dask.config.set({"byzflow.round.replay-memory": budget}):
        memory = Memory(FakeRoster(), Cohort(1, 1), 10, Ask("gradient"))  # type: ignore[arg-type]  # a fake
    await memory.keep(0, None)
    for round in range(2):
        memory.attacked(round, {}, (Ask("lie", ((np.full(2, float(round)),),)),))
        memory.applied(round, Ask("update", (np.zeros(2),)))
    return memory


@pytest.mark.parametrize(
    ("decided", "update_byz", "methods"),
    [(False, False, ["lie"]), (True, False, ["lie", "lie"]), (True, True, ["lie", "update", "lie"])],
)
async def test_a_node_that_was_not_saved_with_its_attacks_is_shown_again_what_it_saw(
    decided: bool, update_byz: bool, methods: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    memory = await with_a_heavy_liar(1 << 20)
    asks = memory.past(1, 1, decided=decided, update_byz=update_byz)
    assert [ask.method for _, ask in asks] == methods
    assert [ask.args[0][0][0] for at, ask in asks if ask.method == "lie"] == [0.0, 1.0][: 1 + decided]
    await memory.catch_up([1], 1, None, decided=decided, update_byz=update_byz)
    assert caplog.text == ""


async def test_states_are_kept_sooner_where_much_is_shown_and_those_of_others_in_their_turn() -> None:
    memory = await with_a_heavy_liar(31)
    assert len(memory._lies) == 2
    await memory.keep(2, None)
    assert not memory._lies
    assert memory.past(1, 2, decided=False, update_byz=True) == []
    assert len(memory.past(0, 2, decided=False, update_byz=True)) == 4
    for round in range(2, 11):
        await memory.keep(round, None)
    assert memory.past(0, 10, decided=False, update_byz=True) == []


async def test_what_a_late_node_was_shown_is_let_go_when_it_is_too_much_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    memory = await with_a_heavy_liar(31)
    await memory.keep(2, None, absent={1})
    assert not memory._lies
    assert memory.past(1, 2, decided=False, update_byz=False) == []
    await memory.catch_up([0, 1], 2, None, decided=False, update_byz=False)
    assert "byzantine-0 goes on as it was before the attack of round 0" in caplog.text


async def test_nothing_is_kept_of_attacks_whose_nodes_were_saved_with_them() -> None:
    memory = await with_a_heavy_liar(1 << 20)
    memory.attacked(2, {1: np.zeros(1, dtype=np.uint8)}, (Ask("lie", ((np.zeros(2),),)),))
    assert 2 not in memory._lies
    await memory.keep(10, None)
    assert not memory._lies
