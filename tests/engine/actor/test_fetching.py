"""What is fetched arrives, whoever else gives up meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from distributed import Client, LocalCluster, wait

from byzflow.engine.actor.fetching import MOST, fetched


@pytest.mark.parametrize("turns", range(12))
async def test_a_fetch_outlives_another_that_is_cancelled_at_any_moment(turns: int) -> None:
    options = {"processes": False, "protocol": "inproc://", "dashboard_address": ":0", "memory_limit": 0}
    async with (
        LocalCluster(n_workers=1, threads_per_worker=1, asynchronous=True, **options) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        values = [client.submit(int, 3), client.submit(int, 4)]
        await wait(values)
        given_up, kept = (
            asyncio.create_task(fetched(lambda value=value: client.gather(value))) for value in values
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        given_up.cancel()
        async with asyncio.timeout(20):
            assert await kept == 4
            with pytest.raises(asyncio.CancelledError):
                await given_up
            assert given_up.cancelled()


async def test_who_is_cancelled_is_not_kept_waiting_and_what_it_fetched_ends_by_itself() -> None:
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await go_on.wait()
        ended.set()
        raise ValueError("seen by nobody")

    task = asyncio.create_task(fetched(slow))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not ended.is_set()
    go_on.set()
    async with asyncio.timeout(20):
        await ended.wait()


async def test_a_client_that_cancels_everything_is_not_asked_for_ever() -> None:
    calls: list[int] = []

    async def closed() -> Any:
        calls.append(1)
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="cancelled 10 times"):
        await fetched(closed)
    assert len(calls) == MOST


async def test_what_fails_says_why() -> None:
    async def fails() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await fetched(fails)
