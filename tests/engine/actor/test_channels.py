from __future__ import annotations

import asyncio
import itertools

import dask
import numpy as np
import pytest
import torch
from distributed import LocalCluster

from byzflow.engine.actor.channels import ChannelRef, Endpoint, open_channel
from byzflow.engine.actor.factory import resolve_backend
from byzflow.exceptions import NodeLostError
from tests.engine.actor.subjects import Subject

SCHEMES = ["thread", "process", "tcp"]
PAIRS = [
    pytest.param(pair, marks=[pytest.mark.processes] if "process" in pair else [], id="-to-".join(pair))
    for pair in itertools.product(SCHEMES, SCHEMES)
]


async def open_end(request, scheme: str, name: str = "news") -> ChannelRef:
    return await open_end_on(request.getfixturevalue(f"{scheme}_runtime")._spec, name)


async def open_end_on(spec, name: str = "news") -> ChannelRef:
    backend = resolve_backend(spec)
    await backend.start()
    await backend.construct(Subject)
    return await open_channel(backend, name)


async def close(*ends: ChannelRef) -> None:
    await asyncio.gather(*(end.backend.close() for end in ends))


@pytest.fixture
async def pair(request):
    sender, receiver = await asyncio.gather(*(open_end(request, scheme) for scheme in request.param))
    yield sender, receiver
    await close(sender, receiver)


on_threads = pytest.mark.parametrize("pair", [("thread", "thread")], indirect=True, ids=["thread"])
on_tcp = pytest.mark.parametrize("pair", [("tcp", "tcp")], indirect=True, ids=["tcp"])


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
async def test_any_scheme_reaches_any_other_and_arrays_keep_their_kind(pair):
    sender, receiver = pair
    await sender.send(receiver.endpoint, {"torch": torch.arange(3), "numpy": np.arange(3)})
    got = await receiver.recv(timeout=30)
    assert torch.equal(got["torch"], torch.arange(3))
    assert isinstance(got["numpy"], np.ndarray)


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
async def test_concurrent_sends_arrive_in_the_order_of_the_calls(pair):
    sender, receiver = pair
    await asyncio.gather(*(sender.send(receiver.endpoint, n) for n in range(30)))
    assert [await receiver.recv(timeout=30) for _ in range(30)] == list(range(30))


@on_tcp
async def test_with_many_readers_nothing_is_lost_or_doubled(pair):
    sender, receiver = pair
    readers = [asyncio.ensure_future(receiver.recv(timeout=30)) for _ in range(30)]
    await asyncio.gather(*(sender.send(receiver.endpoint, n) for n in range(30)))
    assert sorted(await asyncio.gather(*readers)) == list(range(30))


@pytest.mark.parametrize("pair", [("thread", "thread"), ("tcp", "tcp")], indirect=True, ids=["thread", "tcp"])
async def test_a_cancelled_reader_loses_nothing(pair):
    sender, receiver = pair
    got = []
    for n in range(20):
        reader = asyncio.ensure_future(receiver.recv(timeout=30))
        await sender.send(receiver.endpoint, n)
        reader.cancel()
        results = await asyncio.gather(reader, return_exceptions=True)
        got += [n for n in results if isinstance(n, int)]
    while (message := await receiver.recv(timeout=0.05)) is not None:
        got.append(message)
    assert got == list(range(20))


@on_threads
async def test_an_empty_mailbox_answers_none_after_the_timeout(pair):
    assert await pair[1].recv(timeout=0.01) is None


@on_threads
async def test_channels_of_different_names_do_not_mix(pair):
    sender, receiver = pair
    other = await open_channel(receiver.backend, "weather")
    await sender.send(receiver.endpoint, "news")
    assert await other.recv(timeout=0.01) is None
    assert await receiver.recv(timeout=1) == "news"


@pytest.mark.parametrize("pair", [("tcp", "tcp")], indirect=True, ids=["tcp"])
async def test_what_cannot_be_pickled_is_refused_and_the_channel_goes_on(pair):
    import threading

    sender, receiver = pair
    with pytest.raises(TypeError, match="must be picklable"):
        await sender.send(receiver.endpoint, threading.Lock())
    await sender.send(receiver.endpoint, 1)
    assert await receiver.recv(timeout=30) == 1


@on_threads
async def test_sending_to_an_actor_that_is_gone_is_an_error(pair):
    sender, receiver = pair
    await receiver.backend.close()
    with pytest.raises((LookupError, NodeLostError)):
        await sender.send(receiver.endpoint, 1)


async def test_a_full_mailbox_makes_the_sender_wait(monkeypatch):
    from byzflow.engine.actor.backends.dask import DaskActorBackend
    from byzflow.engine.actor.clusters import EMBEDDED, thread_cluster

    monkeypatch.setitem(EMBEDDED, "spare", thread_cluster)
    with dask.config.set({"byzflow.channel.capacity": 2}):
        backend = DaskActorBackend("spare")
        await backend.construct(Subject)
        end = await open_channel(backend, "small")
        sends = [asyncio.ensure_future(end.send(end.endpoint, n)) for n in range(3)]
        await asyncio.wait_for(asyncio.gather(*sends[:2]), 20)
        _, waiting = await asyncio.wait(sends[2:], timeout=0.3)
        assert len(waiting) == 1
        assert await end.recv(timeout=30) == 0
        await asyncio.wait_for(sends[2], 20)
        await backend.close()


def test_endpoints_are_plain_values():
    assert Endpoint("tcp", "tcp://h:1", "a") == Endpoint("tcp", "tcp://h:1", "a")
    assert len({Endpoint("tcp", "tcp://h:1", "a"), Endpoint("tcp", "tcp://h:1", "a")}) == 1


@pytest.mark.parametrize("protocol", ["tcp", "inproc"])
async def test_a_send_to_a_worker_of_a_closed_cluster_is_refused_and_not_tried_for_long(
    thread_runtime, protocol
):
    sender = await open_end_on("thread")
    async with LocalCluster(
        n_workers=1, processes=False, protocol=protocol, dashboard_address=None, asynchronous=True
    ) as cluster:
        receiver = await open_end_on(cluster)
        await sender.send(receiver.endpoint, 1)
        await receiver.backend.close()
    for _ in range(2):
        with (
            dask.config.set({"byzflow.host.settle": "200ms", "distributed.comm.timeouts.connect": "300s"}),
            pytest.raises(NodeLostError, match="nobody listens there"),
        ):
            await asyncio.wait_for(sender.send(receiver.endpoint, 2), 30)
    await sender.backend.close()
