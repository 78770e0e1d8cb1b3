"""Deadlines on a loop that stands still."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from types import SimpleNamespace

import dask
import pytest

from byzflow.engine.actor import batch as batches
from byzflow.engine.actor import neighbour
from byzflow.engine.actor.batch import Batch
from byzflow.engine.actor.calls import Outcome
from byzflow.engine.actor.deadline import until
from byzflow.engine.actor.neighbour import Neighbour, call_neighbours
from byzflow.engine.rounds.moving import Move


def stand_still(seconds: float) -> None:
    time.sleep(seconds)


async def test_time_in_which_the_loop_stood_still_is_given_back() -> None:
    loop = asyncio.get_running_loop()
    answer = loop.create_future()
    waiting = asyncio.ensure_future(until([answer], 0.2))
    await asyncio.sleep(0)
    stand_still(0.4)
    loop.call_later(0.1, answer.set_result, None)
    await waiting
    assert answer.done()


async def test_a_neighbour_that_answers_while_the_loop_stood_still_is_not_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def actor_execute(**asked: object) -> dict[str, object]:
        stand_still(0.4)
        await asyncio.sleep(0.05)
        return {"status": "OK", "result": SimpleNamespace(open=lambda: [Outcome(1)])}

    loop = SimpleNamespace(asyncio_loop=asyncio.get_running_loop())
    worker = SimpleNamespace(loop=loop, rpc=lambda address: SimpleNamespace(actor_execute=actor_execute))
    monkeypatch.setattr(neighbour, "get_worker", lambda: worker)
    there = Neighbour("tcp://there", "host")
    answers = await call_neighbours({there: []}, 0.2)
    assert answers[there][0].value == 1


async def test_no_more_than_a_part_of_its_callers_grace_is_given_back_to_a_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[float] = []

    async def noted(futures: object, deadline: float, *, most: float) -> None:
        given.append(most)

    monkeypatch.setattr(batches, "until", noted)
    for grace in ("4s", "500ms", None):
        with dask.config.set({"byzflow.host.grace": grace}):
            await Batch(1).wait(0.1)
    assert given == [2.0, 0.25, 0.0]


async def test_a_node_made_anew_while_the_loop_stood_still_is_not_slow() -> None:
    move = Move.__new__(Move)
    move._placed, move._work = Future(), Future()
    move._placed.set_result(None)  # a worker was found
    waiting = asyncio.ensure_future(move.wait(0.2))
    for _ in range(10):
        await asyncio.sleep(0)
    stand_still(0.4)
    asyncio.get_running_loop().call_later(0.1, move._work.set_result, Outcome())
    await waiting
    assert move.is_over


@pytest.mark.parametrize("first", [False, True])
async def test_one_answer_is_enough_if_the_first_is_wanted(first: bool) -> None:
    loop = asyncio.get_running_loop()
    answers = [loop.create_future() for _ in range(2)]
    waiting = asyncio.ensure_future(until(answers, None, first=first))
    answers[0].set_result(None)
    await asyncio.wait([waiting], timeout=20 if first else 0.05)
    assert waiting.done() is first
    answers[1].set_result(None)
    await waiting


async def test_a_loop_that_stands_still_for_ever_is_not_given_everything_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "GIVEN_BACK", 0.2)

    async def hog() -> None:
        while True:
            stand_still(0.07)
            await asyncio.sleep(0)

    beside, batch = asyncio.create_task(hog()), Batch(1)
    async with asyncio.timeout(20):
        await batch.wait(0.1)
    beside.cancel()
    assert isinstance(batch.close(lambda index: TimeoutError())[0].error, TimeoutError)


def test_an_outcome_that_comes_while_the_loop_is_being_closed_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def asked() -> Batch:
        return Batch(1)

    batch = asyncio.run(asked())
    monkeypatch.setattr(batch._loop, "is_closed", lambda: False)  # as another thread may just have seen it
    batch.settle(0, None, None)
