"""A gate lets so many through at a time, whatever loops they come from, and forgets nobody's place."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

from byzflow.engine.graph.gate import Gate


async def test_places_are_given_in_the_order_of_arrival() -> None:
    gate, passed = Gate(1), []
    await gate.acquire()

    async def one(name: int) -> None:
        async with gate:
            passed.append(name)

    crowd = [asyncio.create_task(one(name)) for name in range(3)]
    await asyncio.sleep(0)
    assert gate.locked()
    gate.release()
    await asyncio.gather(*crowd)
    assert (passed, gate.locked()) == ([0, 1, 2], False)


async def test_who_is_cancelled_as_it_gets_its_place_passes_it_on() -> None:
    gate = Gate(1)
    await gate.acquire()
    first, second = (asyncio.create_task(gate.acquire()) for _ in range(2))
    await asyncio.sleep(0)
    gate.release()
    first.cancel()
    assert await asyncio.wait_for(second, 20)
    with pytest.raises(asyncio.CancelledError):
        await first
    assert gate.locked()


def test_crowds_of_several_loops_with_cancellations_leave_every_place() -> None:
    gate, guard, now, most = Gate(3), threading.Lock(), [0], [0]

    async def one() -> None:
        async with gate:
            with guard:
                now[0] += 1
                most[0] = max(most[0], now[0])
            try:
                await asyncio.sleep(0)
            finally:
                with guard:
                    now[0] -= 1

    async def crowd(rng: random.Random) -> None:
        tasks = [asyncio.create_task(one()) for _ in range(60)]
        for _ in range(20):
            await asyncio.sleep(0)
            rng.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    threads = [threading.Thread(target=lambda n=n: asyncio.run(crowd(random.Random(n)))) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (most[0] <= 3, gate._value, gate.locked()) == (True, 3, False)
