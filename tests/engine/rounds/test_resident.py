"""A node in its host: one answer for each round, copies for the node, state out and in."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import numpy as np
import pytest
import torch

from byzflow.engine.actor.stack import Stack
from byzflow.engine.rounds.arena import Arena, RowRef
from byzflow.engine.rounds.forms import Signature
from byzflow.engine.rounds.making import build
from byzflow.engine.rounds.memo import UPDATE
from byzflow.engine.rounds.resident import AsyncResident, Resident


class Learner:
    def __init__(self, start: float = 0.0) -> None:
        self.w = torch.full((2,), start)
        self.asked = 0

    def gradient(self) -> torch.Tensor:
        self.asked += 1
        return self.w + self.asked

    def apply(self, g: torch.Tensor) -> None:
        self.w -= g

    def spoil(self, vectors: tuple[Any, ...]) -> None:
        for vector in vectors:
            vector[:] = -1.0


def test_a_round_asked_twice_is_answered_once() -> None:
    resident = Resident(Learner())
    first = resident.resident_call(0, "gradient")
    assert resident.resident_call(0, "gradient") is first
    assert resident.asked == 1
    resident.resident_call(1, "gradient")
    assert resident.asked == 2


def test_a_step_is_taken_once_however_often_it_is_sent() -> None:
    resident = Resident(Learner())
    for _ in range(3):
        resident.resident_call(0, "apply", (torch.ones(2),))
    resident.resident_call(1, "apply", (torch.ones(2),))
    resident.resident_call(0, "apply", (torch.ones(2),))
    assert resident.w.tolist() == [-2.0, -2.0]


def test_an_update_that_comes_again_when_its_round_is_past_is_not_made_again() -> None:
    class Counter:
        w = 0.0

        def gradient(self) -> float:
            return self.w

        def apply_server_gradient(self, g: float) -> None:
            self.w += g

    resident = Resident(Counter())
    resident.resident_call(0, UPDATE, (1.0,))
    resident.resident_call(1, "gradient")
    resident.resident_call(0, UPDATE, (1.0,))  # it was sent again, as nobody knew
    assert resident.w == 1.0
    resident.resident_call(2, "gradient")
    resident.resident_call(1, UPDATE, (10.0,))  # it never came
    assert resident.w == 11.0


def test_nothing_else_of_a_past_round_is_begun() -> None:
    resident = Resident(Learner())
    resident.resident_call(3, "gradient")
    with pytest.raises(RuntimeError, match="asked for round 2; the node is in round 3"):
        resident.resident_call(2, "apply", (torch.ones(2),))
    assert resident.w.tolist() == [0.0, 0.0]


def test_another_run_has_rounds_of_its_own() -> None:
    resident = Resident(Learner())
    for run, rounds in (("one", (0, 1)), ("two", (0, 1)), ("one", (2, 3))):
        for round in rounds:
            for _ in range(2):
                resident.resident_call(round, "gradient", run=run)
    assert resident.asked == 6


def test_a_late_call_of_another_run_takes_no_answer_from_this_one() -> None:
    resident = Resident(Learner())
    resident.resident_call(4, "gradient", run="earlier")
    resident.resident_call(0, "gradient", run="this")
    for _ in range(2):
        resident.resident_call(5, "gradient", run="earlier")
        resident.resident_call(0, "gradient", run="this")
    assert resident.asked == 3


def test_purposes_of_one_round_are_told_apart() -> None:
    resident = Resident(Learner())
    resident.resident_call(0, "gradient", purpose="to-1")
    resident.resident_call(0, "gradient", purpose="to-2")
    resident.resident_call(0, "gradient", purpose="to-1")
    assert resident.asked == 2


@pytest.mark.parametrize("make", [lambda: torch.zeros(2), lambda: np.zeros(2)])
def test_a_node_cannot_change_what_it_is_shown(make: Any) -> None:
    vectors = (make(), make())
    Resident(Learner()).resident_call(0, "spoil", (vectors,))
    assert all(float(abs(vector).sum()) == 0.0 for vector in vectors)


class Shy:
    calls = 0
    error: BaseException = OSError(2, "not yet")

    def speak(self, vector: Any = None) -> int:
        self.calls += 1
        if self.calls == 1:
            raise self.error
        return self.calls

    apply_server_gradient = speak


class AsyncShy(Shy):
    async def speak(self, vector: Any = None) -> int:  # type: ignore[override]  # the async kind
        return super().speak(vector)


@pytest.mark.parametrize("node", [Shy, AsyncShy])
def test_an_error_is_the_answer_of_its_round(node: Any) -> None:
    resident = Resident(node())
    for _ in range(2):
        with pytest.raises(OSError, match="not yet"):
            asyncio.run(_value(resident.resident_call(0, "speak")))
    assert asyncio.run(_value(resident.resident_call(1, "speak"))) == 2


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit])
@pytest.mark.parametrize("kind", [Shy, AsyncShy])
async def test_what_is_no_exception_is_an_answer_too(kind: Any, error: Any) -> None:
    node = kind()
    node.error = error()
    resident = Resident(node)
    for _ in range(2):
        with pytest.raises(error):
            await _value(resident.resident_call(0, "speak"))
    assert node.calls == 1


async def test_that_a_call_was_cancelled_is_no_answer() -> None:
    class Waiting:
        calls = 0

        async def speak(self) -> int:
            self.calls += 1
            if self.calls == 1:
                await asyncio.Event().wait()
            return self.calls

    resident = Resident(Waiting())
    call = asyncio.ensure_future(resident.resident_call(0, "speak"))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await resident.resident_call(0, "speak") == 2


def test_an_update_that_failed_is_made_again() -> None:
    resident = Resident(Shy())
    with pytest.raises(OSError, match="not yet"):
        resident.resident_call(0, "apply_server_gradient")
    assert resident.resident_call(0, "apply_server_gradient") == 2


@pytest.mark.parametrize("node", [Shy, AsyncShy])
def test_nothing_that_comes_after_an_update_is_begun_before_the_node_has_it(node: Any) -> None:
    resident = Resident(node())
    with pytest.raises(OSError, match="not yet"):
        asyncio.run(_value(resident.resident_call(0, "apply_server_gradient")))
    for method in ("speak", "apply_server_gradient"):
        with pytest.raises(RuntimeError, match="has not taken the update of round 0"):
            resident.resident_call(1, method)
    assert asyncio.run(_value(resident.resident_call(0, "apply_server_gradient"))) == 2
    assert asyncio.run(_value(resident.resident_call(1, "speak"))) == 3


class Picky:
    """Takes no update of 0 in its first two calls."""

    def __init__(self) -> None:
        self.calls, self.got = 0, list[int]()

    def apply_server_gradient(self, update: int) -> None:
        self.calls += 1
        if self.calls <= 2:
            raise OSError("busy")
        self.got.append(update)


class AsyncPicky(Picky):
    async def apply_server_gradient(self, update: int) -> None:  # type: ignore[override]  # the async kind
        super().apply_server_gradient(update)


@pytest.mark.parametrize("kind", [Picky, AsyncPicky])
async def test_no_update_is_taken_before_one_that_failed(kind: Any) -> None:
    node = kind()
    resident = AsyncResident(node) if kind is AsyncPicky else Resident(node)

    async def update(round: int, run: str = "") -> None:
        answer = resident.resident_call(round, UPDATE, (round,), run=run)
        if inspect.isawaitable(answer):
            await answer

    for _ in range(2):
        with pytest.raises(OSError, match="busy"):
            await update(0)
        with pytest.raises(RuntimeError, match="has not taken the update of round 0"):
            await update(1)
    await update(5, run="another")
    for round in (0, 1, 0, 1, 2):
        await update(round)
    assert node.got == [5, 0, 1, 2]


def test_what_fails_before_a_node_is_called_is_no_answer_of_it() -> None:
    class Lost(Stack):
        def lend(self) -> Any:
            raise FileNotFoundError("the host is gone")

    node = Shy()
    resident, node.calls = Resident(node), 1
    with pytest.raises(FileNotFoundError):
        resident.resident_call(0, "speak", (Lost(np.zeros((1, 1))),))
    assert resident.resident_call(0, "speak", (np.zeros(1),)) == 2


def test_coroutines_are_remembered_too_and_tell_the_host() -> None:
    class Slow:
        calls = 0

        async def speak(self) -> int:
            self.calls += 1
            return self.calls

    resident = build(Slow)
    assert isinstance(resident, AsyncResident)

    async def twice() -> list[int]:
        return [await _value(resident.resident_call(0, "speak")) for _ in range(2)]

    assert asyncio.run(twice()) == [1, 1]


async def test_calls_of_rounds_wait_for_one_that_is_late_and_do_nothing_twice() -> None:
    class Slow:
        def __init__(self) -> None:
            self.w, self.gate = [], asyncio.Event()

        async def gradient(self) -> float:
            return sum(self.w)

        def state(self) -> float:
            return sum(self.w)

        async def apply_server_gradient(self, g: float) -> None:
            await self.gate.wait()
            self.w.append(g)

    resident = build(Slow)
    late = [asyncio.ensure_future(resident.resident_call(0, UPDATE, (1.0,))) for _ in range(2)]
    after = asyncio.ensure_future(resident.resident_call(1, "gradient"))
    late.append(asyncio.ensure_future(resident.resident_call(0, UPDATE, (1.0,))))
    saved = asyncio.ensure_future(resident.resident_tell(1, "state"))
    done, _ = await asyncio.wait([*late, after, saved], timeout=0.05)
    assert not done
    resident.gate.set()
    assert await saved == 1.0
    assert await after == 1.0
    await asyncio.gather(*late)
    assert resident.w == [1.0]


async def _value(answer: Any) -> int:
    return await answer if asyncio.iscoroutine(answer) else answer


def test_a_state_moves_to_another_resident() -> None:
    first, second = Resident(Learner()), Resident(Learner(5.0))
    first.resident_call(0, "gradient")
    first.resident_call(0, "apply", (torch.ones(2),))
    second.resident_restore(first.resident_save())
    assert second.w.tolist() == [-1.0, -1.0]
    assert second.asked == 1


class Strategist(Learner):
    """Chooses in its constructor which of its methods it uses, and knows itself by other ways too."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__(start)
        self.rule = self.gradient
        self.peers = {"me": self}


@pytest.mark.parametrize("kind", ["snapshot", "checkpoint"])
def test_a_state_that_refers_to_its_node_refers_to_the_one_that_has_it_now(kind: str) -> None:
    first, second = Resident(Strategist()), Resident(Strategist(5.0))
    first.resident_call(0, "rule")
    if kind == "snapshot":
        second.resident_restore(first.resident_save())
    else:
        second.resident_load(*first.resident_state())
    node = second._resident_node
    assert node.peers["me"] is node
    assert node.rule.__self__ is node
    assert second.resident_call(1, "rule").tolist() == [2.0, 2.0]
    assert (node.asked, first.asked) == (2, 1)


def test_a_node_that_takes_up_a_state_may_go_back_to_earlier_rounds() -> None:
    resident = Resident(Shy())
    resident.resident_load(*resident.resident_state())
    with pytest.raises(OSError, match="not yet"):
        resident.resident_call(5, "speak")
    resident.resident_load(*resident.resident_state())
    assert resident.resident_call(5, "speak") == 2
    assert resident.resident_call(6, "speak") == 3
    resident.resident_load(*resident.resident_state())
    assert resident.resident_call(1, "speak") == 4


def test_rounds_that_are_gone_through_again_leave_the_rows_of_past_ones_alone() -> None:
    """Others are replayed with what lies there; a node says the latest it knows when it is asked for them."""
    resident = Resident(Learner())
    arena = Arena(3, Signature("torch", "float32", (2,)))
    for _ in range(2):  # as when a connection is lost while a node catches up
        for round in range(3):
            resident.resident_hold(round, "gradient", place=RowRef(arena.site, round))
    assert [RowRef(arena.site, row).open().tolist() for row in range(3)] == [[1, 1], [2, 2], [3, 3]]


class Steady:
    """Tells the same parameters in every round."""

    def gradient(self) -> torch.Tensor:
        return torch.zeros(2)

    def parameters(self) -> torch.Tensor:
        return torch.ones(2)


def test_what_is_read_late_is_not_left_in_a_row_that_may_belong_to_another_round() -> None:
    resident = Resident(Steady())
    arena = Arena(2, Signature("torch", "float32", (2,)))
    rows = [RowRef(arena.site, row) for row in range(2)]
    resident.resident_call(3, "gradient")
    assert resident.resident_read(3, "parameters", rows[1]).row is not None
    assert resident.resident_read(2, "parameters", rows[0]).row is None
    assert [row.open().tolist() for row in rows] == [[0, 0], [1, 1]]


class Waits:
    """Answers when others have had their turn."""

    told = 0

    async def lie(self) -> int:
        await asyncio.sleep(0)
        self.told += 1
        return self.told


@pytest.mark.parametrize("kind", [Resident, AsyncResident])
async def test_the_state_that_comes_with_an_awaited_answer_is_that_after_it(kind: Any) -> None:
    resident, other = kind(Waits()), Resident(Waits())
    for round in range(2):
        value, state = await resident.resident_call(round, "lie", save=True)
        other.resident_restore(state)
        assert (value, other.told) == (round + 1, round + 1)


def test_a_state_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="Waits needs a state of kind attributes; got state_dict"):
        Resident(Waits()).resident_load("state_dict", {})
