"""Calling many nodes: grouping, deadlines, order, loss."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from typing import Any

import pytest

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.node.actors import NodeActor
from byzflow.engine.rounds.answers import Reason, refusal
from byzflow.engine.rounds.calls import Ask, Roster
from byzflow.exceptions import DeadlineError, NodeLostError


class Echo:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def say(self, value: Any) -> Any:
        self.seen.append(value)
        return value

    def fail(self, error: Exception | None = None) -> None:
        raise error or ValueError("no")


class AsyncEcho:
    async def say(self, value: Any) -> Any:
        await asyncio.sleep(0)
        self.loop = asyncio.get_running_loop()
        return value


class Mixed(Echo):
    """Has methods of both kinds."""

    async def wait(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return self.say(value)

    async def give_up(self) -> None:
        raise asyncio.CancelledError


class Stuck:
    def __init__(self) -> None:
        self.free = threading.Event()

    def say(self, value: Any) -> Any:
        self.free.wait(30)
        return value


class FakeHost:
    """A host that records its calls, or is lost."""

    def __init__(self, error: Exception | None = None) -> None:
        self.rpcs: list[list[Call]] = []
        self.error = error

    async def call_many(self, calls: list[Call], deadline: float | None = None) -> list[Outcome]:
        self.rpcs.append(list(calls))
        if self.error is not None:
            raise self.error
        return [Outcome(value=call.object_id) for call in calls]


class Spawned:
    def __init__(self, host: FakeHost, name: str) -> None:
        self._host, self._name = host, name

    def _place(self) -> tuple[FakeHost, str]:
        return self._host, self._name


async def test_there_is_one_rpc_for_each_host_whatever_the_number_of_nodes() -> None:
    hosts = [FakeHost(), FakeHost()]
    roster = Roster([Spawned(hosts[i % 2], f"node-{i}") for i in range(100)])
    outcomes = await roster.ask(0, dict.fromkeys(range(100), Ask("say", (1,))), 5.0)
    assert [len(host.rpcs) for host in hosts] == [1, 1]
    assert [outcome.value for outcome in outcomes.values()] == [f"node-{i}" for i in range(100)]


@pytest.mark.parametrize("error", [NodeLostError("gone"), DeadlineError("mute")])
async def test_a_lost_host_costs_its_own_nodes_only(error: Exception) -> None:
    hosts = [FakeHost(), FakeHost(error)]
    roster = Roster([Spawned(hosts[i % 2], f"node-{i}") for i in range(4)])
    outcomes = await roster.ask(0, dict.fromkeys(range(4), Ask("say")), 5.0)
    assert [outcome.error for outcome in outcomes.values()] == [None, error, None, error]


async def test_plain_objects_sync_and_async_answer_side_by_side() -> None:
    there = AsyncEcho()
    roster = Roster([Echo(), there])
    outcomes = await roster.ask(0, {0: Ask("say", (1,)), 1: Ask("say", (2,))}, 5.0)
    assert [outcome.value for outcome in outcomes.values()] == [1, 2]
    assert there.loop is asyncio.get_running_loop()
    roster.close()


async def test_coroutines_that_no_class_tells_of_run_on_the_loop_of_the_caller() -> None:
    loops: list[Any] = []

    async def say(value: Any) -> Any:
        loops.append(asyncio.get_running_loop())
        return value

    def handed_on(self: Any, value: Any) -> Any:
        return say(value)

    handed_on.is_remote = True  # type: ignore[attr-defined]  # as methods of handles have it
    own, partly, marked = Echo(), Echo(), type("Marked", (Echo,), {"say": handed_on})()
    own.say, partly.say = say, functools.partial(say)  # type: ignore[method-assign]
    outcomes = await Roster([own, partly, marked]).ask(0, dict.fromkeys(range(3), Ask("say", (7,))), 5.0)
    assert [outcome.value for outcome in outcomes.values()] == [7, 7, 7]
    assert loops == [asyncio.get_running_loop()] * 3


async def test_an_error_is_an_outcome() -> None:
    outcomes = await Roster([Echo()]).ask(0, {0: Ask("fail")}, 5.0)
    assert isinstance(outcomes[0].error, ValueError)


@pytest.mark.parametrize("error", [TimeoutError("mine"), DeadlineError("mine")], ids=repr)
@pytest.mark.parametrize("backend", [None, "thread"])
async def test_a_node_that_raises_a_timeout_has_raised_and_is_not_late(
    error: Exception, backend: str | None
) -> None:
    nodes: list[Any] = [Echo()] if backend is None else [await NodeActor.spawn(Echo, backend=backend)]
    outcome = (await Roster(nodes).ask(0, {0: Ask("fail", (error,))}, 5.0))[0]
    assert outcome.error is not None
    assert refusal(outcome.error, outcome.said)[0] is Reason.RAISED
    assert "mine" in str(outcome.error)
    await NodeActor.close_many([node for node in nodes if isinstance(node, NodeActor)])


async def test_a_stuck_node_is_late_and_does_not_keep_the_others() -> None:
    stuck = Stuck()
    roster = Roster([stuck, Echo()])
    outcomes = await roster.ask(0, dict.fromkeys(range(2), Ask("say", (1,))), 1.0)
    assert isinstance(outcomes[0].error, DeadlineError)
    assert outcomes[1].value == 1
    stuck.free.set()
    assert (await roster.ask(1, {0: Ask("say", (2,))}, 5.0))[0].value == 2
    roster.close()


async def test_queued_calls_run_in_order_and_the_last_value_counts() -> None:
    node = Echo()
    queue = [(0, Ask("say", ("a",))), (1, Ask("say", ("b",))), (2, Ask("say", ("c",)))]
    outcomes = await Roster([node]).ask(2, {0: queue}, 5.0)
    assert node.seen == ["a", "b", "c"]
    assert outcomes[0].value == "c"


async def test_a_cancelled_call_leaves_the_roster_usable() -> None:
    stuck = Stuck()
    roster = Roster([stuck])
    task = asyncio.create_task(roster.ask(0, {0: Ask("say", (1,))}, 30.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stuck.free.set()
    assert (await roster.ask(0, {0: Ask("say", (3,))}, 5.0))[0].value in (1, 3)
    roster.close()


async def test_coroutines_and_other_methods_of_one_node_run_in_the_order_asked_for() -> None:
    node = Mixed()
    queue = [(i, Ask(("say", "wait")[i % 2], (i,))) for i in range(6)]
    outcomes = await Roster([node, Echo()]).ask(6, {0: queue, 1: Ask("say", (9,))}, 5.0)
    assert node.seen == list(range(6))
    assert [outcomes[0].value, outcomes[1].value] == [5, 9]


async def test_a_coroutine_that_cancels_itself_is_an_error_at_once() -> None:
    roster = Roster([Mixed(), Echo()])
    queue = [(0, Ask("give_up")), (1, Ask("say", (1,)))]
    async with asyncio.timeout(30):
        outcomes = await roster.ask(1, {0: queue, 1: Ask("say", (2,))}, None)
    assert isinstance(outcomes[0].error, asyncio.CancelledError)
    assert outcomes[1].value == 2


class Failing(Stuck):
    """Has failed before, and is stuck in what came then."""

    def gradient(self) -> None:
        raise ValueError("no data")


async def test_a_past_that_is_not_gone_through_is_late_whatever_it_raised_before() -> None:
    node = Failing()
    roster = Roster([node])
    past = [(0, Ask("gradient")), (0, Ask("say", (1,)))]
    late = await roster.ask(1, {0: past}, deadline=0.2)
    node.free.set()
    through = await roster.ask(1, {0: [*past, (1, Ask("say", (2,)))]}, deadline=20.0)
    roster.close()
    assert isinstance(late[0].error, DeadlineError)
    assert through[0].value == 2  # an error of a past round is no answer of this one


class Slow:
    async def say(self, value: Any) -> Any:
        for _ in range(10):
            await asyncio.sleep(0.005)
        return value


async def test_a_cell_that_computes_on_the_loop_of_a_round_makes_no_node_late() -> None:
    limit = 0.2
    asks = {index: Ask("say", (index,)) for index in range(2)}
    asked = asyncio.ensure_future(Roster([Slow(), Slow()]).ask(0, asks, limit))
    for _ in range(5):
        await asyncio.sleep(0)
    compute(2 * limit)
    assert [outcome.value for outcome in (await asked).values()] == [0, 1]


def compute(seconds: float) -> None:
    time.sleep(seconds)
