"""Channels of pools that lose workers: every message arrives, once and in order, or its sender is told."""

from __future__ import annotations

import asyncio
from typing import Any

import dask
import pytest
import torch

from byzflow.engine.actor.fleet import NoWorkersError
from byzflow.engine.graph.pool import ActorPool, ActorPoolChannel, ActorPoolConfig
from byzflow.exceptions import NodeLostError
from tests.engine.forgiving import forgiving_cluster
from tests.engine.killer import Killer


@pytest.fixture
async def cluster() -> Any:
    async with forgiving_cluster(2) as made:
        yield made


@pytest.fixture
async def pool(cluster: Any) -> Any:
    async with ActorPool([ActorPoolConfig(cluster, count=2)]) as made:
        yield made


def host_of(channel: ActorPoolChannel, worker: str) -> Any:
    return channel.channel(worker).backend.backend.host


async def lose(cluster: Any, host: Any) -> None:
    """Close a worker, and wait until that is known."""
    (worker,) = [worker for worker in cluster.workers.values() if worker.address == host.address]
    await worker.close()
    await host.runtime.run(asyncio.wait_for, asyncio.shield(host._lost), 20)


async def test_what_lay_unread_on_a_lost_worker_arrives_once_and_first(cluster: Any, pool: Any) -> None:
    channel = await pool.open_channel("c")
    for number in range(3):
        await channel.send("actor-0", "actor-1", number)
    assert await channel.recv("actor-1", timeout=30) == 0
    await lose(cluster, host_of(channel, "actor-1"))
    await channel.send("actor-0", "actor-1", 3)  # to a worker that is gone
    assert await channel.recv("actor-1", timeout=30) == 1
    await channel.send("actor-0", "actor-1", 4)
    assert [await channel.recv("actor-1", timeout=30) for _ in range(3)] == [2, 3, 4]
    await channel.send("actor-0", "actor-1", 5)
    assert await channel.recv("actor-1", timeout=30) == 5
    assert await channel.recv("actor-1", timeout=0.01) is None
    await channel.send("actor-1", "actor-0", "back")
    assert await channel.recv("actor-0", timeout=30) == "back"


async def test_a_channel_outlives_the_worker_that_a_subtask_found_lost(cluster: Any, pool: Any) -> None:
    channel = await pool.open_channel("c")
    vector = torch.ones(50_000)  # more than what is copied into a pickle
    await channel.send("actor-0", "actor-1", vector)
    vector.zero_()
    await lose(cluster, host_of(channel, "actor-1"))
    for worker in pool._roster.workers:
        await pool._revive(worker)
    assert await pool.open_channel("c") is channel
    assert torch.equal(await channel.recv("actor-1", timeout=30), torch.ones(50_000))


async def test_an_endpoint_known_from_before_is_good_afterwards_for_other_pools_too(
    cluster: Any, pool: Any
) -> None:
    async with ActorPool([ActorPoolConfig("thread", name="far")]) as other:
        far, channel = await other.open_channel("c"), await pool.open_channel("c")
        endpoint = channel.endpoint("actor-1")
        await far.channel("far-0").send(endpoint, 0)
        await lose(cluster, host_of(channel, "actor-1"))
        await far.channel("far-0").send(endpoint, 1)
        assert [await channel.recv("actor-1", timeout=30) for _ in range(2)] == [0, 1]
        await far.channel("far-0").send(endpoint, 2)
        assert await channel.recv("actor-1", timeout=30) == 2


async def test_without_any_worker_what_was_sent_is_handed_out_and_then_the_reader_is_told(
    cluster: Any, pool: Any
) -> None:
    with dask.config.set({"byzflow.channel.capacity": 2}):
        channel = await pool.open_channel("c")
    hosts = [host_of(channel, worker) for worker in channel.workers]
    await channel.send("actor-0", "actor-1", 0)
    for host in hosts:
        await lose(cluster, host)
    await channel.send("actor-0", "actor-1", 1)
    with pytest.raises(NodeLostError, match="gone"):
        await channel.send("actor-0", "actor-1", 2)  # more than a mailbox holds
    assert [await channel.recv("actor-1") for _ in range(2)] == [0, 1]
    with dask.config.set({"byzflow.comm.connect-timeout": "0.2s"}):
        with pytest.raises(NoWorkersError, match="must have a worker"):
            await channel.recv("actor-1")
        assert await channel.recv("actor-1", timeout=0.01) is None
    await channel.send("actor-0", "actor-1", 3)
    cluster.scale(1)
    assert await channel.recv("actor-1", timeout=20) == 3


async def test_a_reader_that_is_cancelled_while_the_mailbox_moves_takes_nothing_with_it(
    cluster: Any, pool: Any
) -> None:
    channel = await pool.open_channel("c")
    await lose(cluster, host_of(channel, "actor-1"))
    reader = asyncio.ensure_future(channel.recv("actor-1"))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait([reader])
    await channel.send("actor-0", "actor-1", 0)
    assert await channel.recv("actor-1", timeout=20) == 0


async def test_a_pool_that_is_shut_down_while_a_mailbox_moves_tells_the_reader(
    cluster: Any, pool: Any
) -> None:
    channel = await pool.open_channel("c")
    await lose(cluster, host_of(channel, "actor-1"))
    reader = asyncio.ensure_future(channel.recv("actor-1"))
    await asyncio.sleep(0)
    await asyncio.wait_for(pool.shutdown(), 10)
    with pytest.raises((RuntimeError, asyncio.CancelledError)):
        await asyncio.wait_for(reader, 10)


@pytest.mark.processes
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [3])
async def test_kills_at_random_moments_lose_double_and_reorder_nothing(seed: int) -> None:
    count = 500
    with dask.config.set({"byzflow.cluster.workers": 2, "byzflow.comm.connect-timeout": "30s"}):
        async with ActorPool([ActorPoolConfig("process", count=3)]) as pool:
            channel = await pool.open_channel("c")
            killer = Killer(pool.runtime.client.cluster, seed, count, 6)

            async def send(sender: str) -> None:
                for number in range(count):
                    if sender == "actor-0":
                        killer.before(number)
                    await channel.send(sender, "actor-2", (sender, number))
                await asyncio.to_thread(killer.finish)

            async def read() -> list[Any]:
                return [await channel.recv("actor-2", timeout=60) for _ in range(2 * count)]

            *_, got = await asyncio.gather(send("actor-0"), send("actor-1"), read())
            assert killer.killed
            for sender in ("actor-0", "actor-1"):
                assert [number for name, number in got if name == sender] == list(range(count))
            assert await channel.recv("actor-2", timeout=0.1) is None
