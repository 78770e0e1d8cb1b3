"""Mailboxes on workers that are lost: every message arrives, once and in order."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from byzflow.engine.graph.pool import ActorPoolConfig
from byzflow.engine.node.application import NodeApplication
from byzflow.engine.node.context import DaskContext, InProcessContext, RemoteContext
from byzflow.engine.node.decentralized import DecentralizedNode
from byzflow.engine.node.remote_server import RemoteNodeServer
from byzflow.exceptions import NodeLostError
from tests.engine.forgiving import forgiving_cluster


@pytest.fixture
async def cluster() -> Any:
    async with forgiving_cluster(2) as made:
        yield made


@pytest.fixture
async def pair(cluster: Any) -> Any:
    """Two started contexts, the second one with its mailbox on the second worker."""
    here, there = DaskContext(cluster), DaskContext(cluster)
    await here.start(SimpleNamespace(node_id="here"))
    await there.start(SimpleNamespace(node_id="there"))
    yield here, there
    await here.shutdown()
    await there.shutdown()


class Unreadable:
    """Cannot be opened, as a message with a class of a package that is not there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _missing, ()


def _missing() -> None:
    raise ModuleNotFoundError("No module named 'theirs'")


async def lose(cluster: Any, context: DaskContext) -> None:
    """Close the worker of a context's mailbox, and wait until that is known."""
    host = context._box.backend.host
    (worker,) = [worker for worker in cluster.workers.values() if worker.address == host.address]
    await worker.close()
    await host.runtime.run(asyncio.wait_for, asyncio.shield(host._lost), 20)


async def read(context: DaskContext, count: int) -> list[Any]:
    got: list[Any] = []
    async with asyncio.timeout(30):
        async for message in context.receive_messages():
            got.append(message["payload"])
            if len(got) == count:
                break
    return got


async def test_what_lay_in_a_lost_mailbox_arrives_once_and_first(cluster: Any, pair: Any) -> None:
    here, there = pair
    for number in range(3):
        await here.send_message("there", "count", number)
    assert await read(there, 1) == [0]
    await lose(cluster, there)
    await here.send_message("there", "count", 3)  # to a worker that is gone
    assert await read(there, 3) == [1, 2, 3]
    for number in (4, 5):
        await here.send_message("there", "count", number)
    assert await read(there, 2) == [4, 5]
    assert not there._box.unread.rescue()


@pytest.mark.parametrize("kind", ["dask", "remote"])
async def test_a_message_that_cannot_be_opened_is_dropped(pair: Any, kind: str, caplog: Any) -> None:
    here, there = pair
    async with RemoteNodeServer("127.0.0.1", 0) as server:
        if kind == "remote":
            here, there = (RemoteContext("127.0.0.1", server.port) for _ in range(2))
            await here.start(SimpleNamespace(node_id="here"))
            await there.start(SimpleNamespace(node_id="there"))
        for payload in (Unreadable(), "next"):
            await here.send_message("there", "text", payload)
        assert await read(there, 1) == ["next"]
        await here.shutdown()
        await there.shutdown()
    assert "A message cannot be opened here" in caplog.text
    assert "No module named 'theirs'" in caplog.text


async def test_a_node_is_not_ended_by_what_is_no_message(caplog: Any) -> None:
    class Odd(InProcessContext):
        async def receive_messages(self) -> Any:
            for message in ({}, "text", None, {"from": "a", "type": "t", "payload": 1}):
                yield message

    app = NodeApplication(name="a", actor_pool=[ActorPoolConfig("thread")])
    node, heard = DecentralizedNode(node_id="b", application=app, context=Odd()), asyncio.Event()
    node.register_message_handler("t", lambda sender, payload: heard.set())
    async with node:
        await asyncio.wait_for(heard.wait(), 30)
    assert caplog.text.count("Node b failed on a None of None") == 3


async def test_a_rescued_message_is_what_was_sent(cluster: Any, pair: Any) -> None:
    here, there = pair
    vector = torch.ones(50_000)  # more than what is copied into a pickle
    await here.send_message("there", "vector", vector)
    vector.zero_()
    await lose(cluster, there)
    (got,) = await read(there, 1)
    assert torch.equal(got, torch.ones(50_000))


async def test_a_node_whose_own_mailbox_is_lost_still_sends(cluster: Any, pair: Any) -> None:
    here, there = pair
    await lose(cluster, here)
    await here.send_message("there", "count", 1)
    assert await read(there, 1) == [1]


async def test_what_waits_for_a_new_mailbox_is_bounded(cluster: Any, pair: Any) -> None:
    here, there = pair
    await lose(cluster, there)
    there._box.unread._capacity = 2
    await here.send_message("there", "count", 0)
    await here.send_message("there", "count", 1)
    with pytest.raises(NodeLostError, match="gone"):
        await here.send_message("there", "count", 2)
    assert await read(there, 2) == [0, 1]


class Broken(InProcessContext):
    """A context that fails while its node listens."""

    async def receive_messages(self) -> Any:
        raise ConnectionError("the line is cut")
        yield


async def test_a_node_that_hears_no_more_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    log = SimpleNamespace(error=lambda text, *args, exc_info: said.append(f"{text % args}: {exc_info}"))
    monkeypatch.setattr("byzflow.engine.node.decentralized.logger", log)
    app = NodeApplication(name="deaf", actor_pool=[ActorPoolConfig("thread")])
    async with DecentralizedNode(node_id="deaf", application=app, context=Broken()) as node:
        assert node._listening is not None
        await asyncio.wait([node._listening])
        await asyncio.sleep(0)
    assert said == ["Node deaf takes no more messages: the line is cut"]


async def test_a_send_to_a_node_that_stops_meanwhile_is_told_so(cluster: Any, pair: Any) -> None:
    here, there = pair
    await lose(cluster, there)
    sending = asyncio.ensure_future(here.send_message("there", "count", 1))
    await asyncio.sleep(0)  # it has begun
    await there.shutdown()
    with pytest.raises(NodeLostError):
        await sending
