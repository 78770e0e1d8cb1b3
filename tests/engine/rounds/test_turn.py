"""Rounds of a run are one at a time, on whichever loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from byzflow.engine.rounds.turn import Turn
from tests.engine.sine_node import SineNode


class Gated(SineNode):
    """Lets nobody pass until it is told."""

    began, gate = threading.Event(), threading.Event()

    def misbehave(self) -> None:
        self.began.set()
        assert self.gate.wait(30)


runs = pytest.mark.parametrize(
    "make",
    [
        lambda nodes: ParameterServer(nodes, [], CoordinateWiseMedian()),
        lambda nodes: PeerToPeer(nodes, [], Topology.complete(2)),
    ],
    ids=["server", "peers"],
)


@runs
def test_a_round_beside_another_of_the_same_run_waits_on_its_loop_and_is_refused_elsewhere(make: Any) -> None:
    Gated.began.clear()
    Gated.gate.clear()
    run = make([Gated(0), Gated(1)])
    other = threading.Thread(target=run.round_sync)
    other.start()
    assert Gated.began.wait(30)
    with pytest.raises(RuntimeError, match="one round at a time; another is under way"):
        run.round_sync()
    Gated.gate.set()
    other.join(30)

    async def side_by_side() -> None:
        await asyncio.gather(run.round(), run.round(), run.round())
        await run.shutdown()

    asyncio.run(side_by_side())
    assert [report.round for report in run.history] == [0, 1, 2, 3]


@runs
async def test_a_round_that_is_under_way_when_its_run_is_closed_ends_with_an_error(make: Any) -> None:
    Gated.began.clear()
    Gated.gate.clear()
    run = make([Gated(0), Gated(1)])
    rounds = [asyncio.create_task(run.round()) for _ in range(3)]
    assert await asyncio.to_thread(Gated.began.wait, 30)
    async with asyncio.timeout(30):
        await asyncio.gather(run.shutdown(), run.shutdown())
        ended = await asyncio.gather(*rounds, return_exceptions=True)
    assert [type(error) for error in ended] == [RuntimeError] * 3
    assert ["was under way" in str(error) for error in ended] == [True, False, False]
    Gated.gate.set()


@runs
def test_a_round_of_another_loop_ends_when_its_run_is_closed(make: Any) -> None:
    Gated.began.clear()
    Gated.gate.clear()
    run, raised = make([Gated(0), Gated(1)]), list[BaseException]()

    def rounds() -> None:
        try:
            run.round_sync()
        except RuntimeError as error:
            raised.append(error)

    other = threading.Thread(target=rounds)
    other.start()
    assert Gated.began.wait(30)
    asyncio.run(run.shutdown())
    other.join(30)
    assert "was under way when its run was closed" in str(raised[0])
    Gated.gate.set()


@runs
async def test_a_round_that_is_cancelled_while_its_run_is_closed_stays_cancelled(make: Any) -> None:
    Gated.began.clear()
    Gated.gate.clear()
    run = make([Gated(0), Gated(1)])
    task = asyncio.create_task(run.round())
    assert await asyncio.to_thread(Gated.began.wait, 30)
    task.cancel()
    await run.shutdown()
    with pytest.raises(asyncio.CancelledError):
        await task
    Gated.gate.set()


async def test_who_has_just_given_the_turn_back_is_not_cancelled() -> None:
    turn, entered, after = Turn(), asyncio.Event(), asyncio.Event()
    leave = asyncio.get_running_loop().create_future()

    async def hold() -> str:
        async with turn.taken():
            entered.set()
            await leave
        await after.wait()
        return "done"

    holder = asyncio.ensure_future(hold())
    await entered.wait()
    leave.set_result(None)  # it leaves before anybody can cancel it
    await turn.close()
    after.set()
    assert await holder == "done"


@pytest.mark.parametrize("waits", [False, True], ids=["holds-it", "waits-for-it"])
def test_a_round_of_a_loop_that_was_closed_does_not_give_back_the_turn_of_the_next(waits: bool) -> None:
    turn, former = Turn(), asyncio.new_event_loop()

    async def hold() -> None:
        async with turn.taken():
            await asyncio.Event().wait()

    async def begin() -> list[asyncio.Task[None]]:
        holders = [asyncio.create_task(hold()) for _ in range(1 + waits)]
        await asyncio.wait(holders, timeout=0.01)
        return holders

    async def another() -> None:
        async with turn.taken():
            pass

    async def follow(gone: Any) -> None:
        async with turn.taken():
            gone.close()  # as it is when it is collected
            waiting = asyncio.create_task(another())
            await asyncio.wait([waiting], timeout=0.05)
            assert not waiting.done()
            with pytest.raises(RuntimeError, match="one round at a time"):
                await asyncio.to_thread(asyncio.run, another())
        await waiting

    left = former.run_until_complete(begin())
    former.close()
    asyncio.run(follow(left[-1].get_coro()))
    for task in left:
        task.get_coro().close()
        task._log_destroy_pending = False
