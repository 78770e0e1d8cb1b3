"""Lost nodes come back, also when their new worker is lost, and stay pending until they have caught up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import dask
import pytest

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.rounds import returns as returns_module
from byzflow.engine.rounds.calls import on_host
from byzflow.engine.rounds.returns import ATTEMPTS, TURN, Returns
from byzflow.engine.rounds.suspects import STRIKES, Suspects
from byzflow.exceptions import DeadlineError, NodeLostError


class Respawning:
    """A roster whose nodes lose as many new workers as it is told."""

    def __init__(self, losses: int) -> None:
        self.losses, self.made = losses, list[int]()
        self.suspects, self.nodes = Suspects(), range(9)
        self.runtime = SimpleNamespace(can_spare=True)

    def seat(self, index: int) -> Any:
        return SimpleNamespace(host=SimpleNamespace(runtime=self.runtime))

    def move(self, index: int, state: Any, *, patience: float) -> Any:
        self.made.append(index)
        return Moved()

    def seated(self, index: int, move: Any) -> Outcome:
        if len(self.made) <= self.losses:
            raise NodeLostError("gone again")
        return Outcome()


class Moved:
    """A move that is over, or hangs until it is told."""

    def __init__(self, is_over: bool = True) -> None:
        self.is_over, self.limits, self.ends = is_over, list[float | None](), 0

    async def wait(self, limit: float | None) -> None:
        self.limits.append(limit)

    def cancel(self) -> None:
        self.ends += 1

    async def close(self) -> None:
        self.ends += 1


def state(index: int) -> Any:
    return None


async def caught_up(indices: Any) -> dict[int, Outcome]:
    return {}


async def test_a_node_whose_new_worker_is_lost_is_made_once_more() -> None:
    roster: Any = Respawning(losses=STRIKES - 1)
    assert await Returns(roster).bring_back([3], 0, state, caught_up) == {}
    assert roster.made == [3] * STRIKES


async def test_a_node_that_takes_down_workers_when_it_is_made_is_left_out_of_the_round() -> None:
    roster: Any = Respawning(losses=10**6)
    returns = Returns(roster)
    failed = await returns.bring_back([3], 0, state, caught_up)
    assert isinstance(failed[3].error, NodeLostError)
    assert len(roster.made) == STRIKES
    assert returns.pending == set()


async def test_workers_that_are_lost_for_no_reason_end_the_attempts_of_a_round() -> None:
    async def lost(indices: Any) -> dict[int, Outcome]:
        return {index: Outcome(error=NodeLostError("gone")) for index in indices}

    roster: Any = Respawning(losses=0)
    returns = Returns(roster)
    assert list(await returns.bring_back([3], 0, state, lost)) == [3]
    assert len(roster.made) == ATTEMPTS
    assert list(await returns.bring_back([4], 0, state, caught_up)) == [4]
    assert returns.recall({3: Outcome(), 4: Outcome()}, 1)[0] == {3, 4}


async def test_a_node_that_takes_down_workers_is_tried_again_ever_more_rarely() -> None:
    roster: Any = Respawning(losses=10**6)
    returns, gone, tried = Returns(roster), dict[int, Outcome](), list[int]()
    gone |= await returns.bring_back([3], 0, state, caught_up)
    for round in range(1, 40):
        roster.suspects.clear()
        again, _ = returns.recall(gone, round)
        if again:
            tried.append(round)
            gone |= await returns.bring_back(again, round, state, caught_up)
    assert tried == [1, 3, 7, 15, 31]
    assert len(roster.made) == STRIKES + len(tried)


async def test_a_node_that_took_down_workers_is_tried_again_once_they_are_replaced() -> None:
    roster: Any = Respawning(losses=STRIKES)
    returns, gone = Returns(roster), dict[int, Outcome]()
    gone |= await returns.bring_back([3], 0, state, caught_up)
    roster.suspects.clear()
    roster.runtime.can_spare = False
    assert [returns.recall(gone, round)[0] for round in (0, 1, 2)] == [set()] * 3
    roster.runtime.can_spare = True
    assert returns.recall(gone, 2)[0] == {3}
    assert await returns.bring_back([3], 2, state, caught_up) == {}
    assert returns.stranded == set()
    assert gone == {}


class Unmade(Respawning):
    """A roster of nodes whose constructors fail."""

    def __init__(self, error: Exception) -> None:
        super().__init__(losses=0)
        self.error = error

    def seated(self, index: int, move: Any) -> Outcome:
        if isinstance(self.error, DeadlineError):
            raise self.error
        return Outcome(error=self.error, said=str(self.error))


@pytest.mark.parametrize("error", [OSError("no port"), NodeLostError("its own"), DeadlineError("no answer")])
async def test_a_node_that_cannot_be_made_is_tried_again_later(error: Any) -> None:
    roster: Any = Unmade(error)
    roster.runtime.can_spare = False  # it costs no worker
    returns, gone, tried = Returns(roster), dict[int, Outcome](), list[int]()
    gone |= await returns.bring_back([3, 4], 0, state, caught_up)
    for round in range(1, 16):
        again, _ = returns.recall(gone, round)
        if again:
            tried.append(round)
            gone |= await returns.bring_back(again, round, state, caught_up)
    assert tried == [1, 3, 7, 15]
    assert roster.made == [3, 4] * (len(tried) + 1)
    assert roster.suspects.guilty == set()
    assert returns.stranded == {3, 4}
    assert gone[3].said == (None if isinstance(error, DeadlineError) else f"when it was made anew: {error}")
    assert not isinstance(gone[3].error, NodeLostError)


class Hanging(Respawning):
    """A roster of nodes whose constructors hang."""

    def __init__(self) -> None:
        super().__init__(losses=0)
        self.moves = dict[int, Moved]()

    def move(self, index: int, state: Any, *, patience: float) -> Any:
        self.made.append(index)
        self.moves[index] = Moved(is_over=False)
        return self.moves[index]


async def test_a_node_that_is_made_for_long_is_waited_for_once_and_comes_back_when_it_is_ready() -> None:
    roster: Any = Hanging()
    returns, gone = Returns(roster), dict[int, Outcome]()
    gone |= await returns.bring_back([3, 4], 0, state, caught_up)
    assert all(isinstance(gone[index].error, DeadlineError) for index in (3, 4))
    assert [returns.recall(gone, round)[0] for round in range(1, 20)] == [set()] * 19
    roster.moves[4].is_over = True
    assert returns.recall(gone, 20)[0] == {4}
    assert await returns.bring_back([4], 20, state, caught_up) == {}
    assert list(gone) == [3]
    assert roster.made == [3, 4]
    assert [len(roster.moves[index].limits) for index in (3, 4)] == [1, 1]
    await returns.close()
    assert roster.moves[3].ends == 2  # given up, and waited for
    assert returns.stranded == set()


async def test_many_nodes_whose_constructors_hang_cost_a_round_the_time_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]

    async def wait(move: Moved, limit: float) -> None:
        clock[0] += limit

    monkeypatch.setattr(Moved, "wait", wait)
    monkeypatch.setattr(returns_module.time, "monotonic", lambda: clock[0])
    roster: Any = Hanging()
    with dask.config.set({"byzflow.host.start-deadline": 60.0}):
        failed = await Returns(roster).bring_back(range(9), 0, state, caught_up)
    assert len(failed) == 9
    assert clock[0] == 60.0 + 8 * TURN


async def test_a_node_that_was_made_but_has_not_caught_up_stays_pending() -> None:
    async def cancelled(indices: Any) -> dict[int, Outcome]:
        raise asyncio.CancelledError

    roster: Any = Respawning(losses=0)
    returns = Returns(roster)
    with pytest.raises(asyncio.CancelledError):
        await returns.bring_back([3], 0, state, cancelled)
    assert returns.pending == {3}
    assert await returns.bring_back([], 0, state, caught_up) == {}
    assert roster.made == [3, 3]


class Frail:
    """A host that is lost when a certain node is called."""

    def __init__(self, killer: str) -> None:
        self.killer, self.lost, self.messages = killer, False, list[list[str]]()

    async def call_many(self, calls: Any, deadline: float | None = None) -> list[Outcome]:
        if self.lost:
            raise NodeLostError("gone")
        self.messages.append([call.object_id for call in calls])
        self.lost = self.killer in self.messages[-1]
        if self.lost:
            raise NodeLostError("gone")
        return [Outcome(value=call.object_id) for call in calls]


async def test_suspects_are_called_alone_and_after_the_others() -> None:
    suspects, host = Suspects(), Frail("c")
    suspects.watch([1, 2])
    queues = [[Call(name, "step")] for name in "abcd"]
    answers = await suspects.deliver(on_host, host, range(4), queues, 5.0)
    assert host.messages == [["a", "d"], ["b"], ["c"]]
    assert [answer[0].value for answer in answers] == ["a", "b", None, "d"]
    assert suspects.guilty == set()


async def test_a_node_that_takes_down_its_worker_alone_is_guilty_but_not_who_is_lost_with_it() -> None:
    suspects = Suspects()
    suspects.watch([0, 1, 2])
    for _ in range(STRIKES):
        await suspects.deliver(on_host, Frail("a"), range(3), [[Call(name, "step")] for name in "abc"], None)
    assert suspects.guilty == {0}
    roster: Any = Respawning(losses=0)
    roster.suspects = suspects
    failed = await Returns(roster).bring_back([0, 1, 2], 0, state, caught_up)
    assert list(failed) == [0]
    assert roster.made == [1, 2]
    suspects.clear()
    assert suspects.guilty == set()
