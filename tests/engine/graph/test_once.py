"""One caller opens, all others wait for it; a failure and a cancellation leave nothing half open."""

from __future__ import annotations

import asyncio
import threading

import pytest

from byzflow.engine.graph.once import Once


class Work:
    """Counts how often it is begun, and goes on when told."""

    def __init__(self, *errors: Exception | None) -> None:
        self.begun = 0
        self.begins = asyncio.Semaphore(0)
        self.go = asyncio.Event()
        self._errors = iter(errors)

    async def __call__(self) -> None:
        self.begun += 1
        self.begins.release()
        await self.go.wait()
        error = next(self._errors, None)
        if error is not None:
            raise error


async def test_many_callers_open_once() -> None:
    once, work = Once(), Work()
    callers = [asyncio.create_task(once.open(work)) for _ in range(5)]
    await work.begins.acquire()
    assert not any(caller.done() for caller in callers)
    work.go.set()
    await asyncio.gather(*callers)
    await once.open(work)
    assert work.begun == 1


def test_callers_of_other_loops_wait_too() -> None:
    once, opened, seen = Once(), [], []
    entered, go = threading.Event(), threading.Event()

    async def work() -> None:
        entered.set()
        assert await asyncio.to_thread(go.wait, 10)
        opened.append(threading.current_thread())

    def call() -> None:
        asyncio.run(once.open(work))
        seen.append(len(opened))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert entered.wait(30)
    go.set()
    for thread in threads:
        thread.join(30)
    assert seen == [1, 1, 1]


async def test_a_failure_reaches_all_who_wait_and_the_next_caller_tries_again() -> None:
    once, work = Once(), Work(OSError("taken"))
    callers = [asyncio.create_task(once.open(work)) for _ in range(3)]
    await work.begins.acquire()
    work.go.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [OSError] * 3
    await once.open(work)
    assert work.begun == 2


async def test_another_caller_opens_when_the_first_is_cancelled() -> None:
    once, work = Once(), Work()
    first, second = (asyncio.create_task(once.open(work)) for _ in range(2))
    await work.begins.acquire()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await work.begins.acquire()
    work.go.set()
    await second


async def test_close_waits_for_an_opening_and_says_whether_there_was_one() -> None:
    once, work = Once(), Work()
    assert not await once.close()
    opening = asyncio.create_task(once.open(work))
    await work.begins.acquire()
    closing = asyncio.create_task(once.close())
    work.go.set()
    await opening
    assert await closing
    assert not await once.close()
    await once.open(work)
    assert work.begun == 2


async def test_of_two_who_close_at_the_same_time_one_does_the_work() -> None:
    once, work, closed = Once(), Work(), []
    opening = asyncio.create_task(once.open(work))
    await work.begins.acquire()
    closings = [asyncio.create_task(once.close(lambda: closed.append("here"))) for _ in range(2)]
    work.go.set()
    await opening
    assert sorted(await asyncio.gather(*closings)) == [False, True]
    assert closed == ["here"]
