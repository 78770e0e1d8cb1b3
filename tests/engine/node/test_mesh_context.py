"""Nodes that dial each other: whoever is up is reached, whoever is not is named, and comes back."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from byzflow.engine.node.context import MeshRemoteContext
from byzflow.engine.peer_to_peer.topology import Topology
from tests.engine.node.test_decentralized import NAMES, cluster_of

HOST = "127.0.0.1"
Book = dict[str, tuple[str, int]]

ECHO = """
import asyncio, sys
from types import SimpleNamespace
from byzflow.engine.node.context import MeshRemoteContext

async def main(own, peer):
    context = MeshRemoteContext("127.0.0.1", own, {"here": ("127.0.0.1", peer)}, reconnect_interval=0.05)
    await context.start(SimpleNamespace(node_id="there"))
    async for message in context.receive_messages():
        await context.send_message(message["from"], "echo", 2 * message["payload"])
        break
    await context.shutdown()

asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""


def book(*names: str) -> Book:
    """Free ports, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for one in sockets:
            one.bind((HOST, 0))
        return {name: (HOST, one.getsockname()[1]) for name, one in zip(names, sockets, strict=True)}


def mesh(addresses: Book, name: str, connect_timeout: float = 10.0) -> MeshRemoteContext:
    others = {peer: place for peer, place in addresses.items() if peer != name}
    return MeshRemoteContext(*addresses[name], others, connect_timeout, reconnect_interval=0.05)


async def started(addresses: Book, name: str, connect_timeout: float = 10.0) -> MeshRemoteContext:
    context = mesh(addresses, name, connect_timeout)
    await context.start(SimpleNamespace(node_id=name))
    return context


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)


async def first(context: MeshRemoteContext) -> dict[str, Any]:
    async with asyncio.timeout(30):
        return await anext(context.receive_messages())


async def test_a_decentralized_cluster_runs_without_a_server() -> None:
    addresses = book(*NAMES.values())
    names = iter(NAMES.values())
    cluster = await cluster_of(lambda: mesh(addresses, next(names)), Topology.complete(3))
    got: asyncio.Queue[Any] = asyncio.Queue()

    async def handler(sender: str, payload: Any) -> None:
        await got.put((sender, payload.tolist()))

    for name in ("b", "c"):
        cluster.nodes[name].register_message_handler("vector", handler)
    for i in range(3):
        await cluster.nodes["a"].broadcast_message("vector", torch.full((2,), float(i)))
    async with asyncio.timeout(30):
        arrived = [await got.get() for _ in range(6)]
    assert sorted(arrived) == [("a", [float(i)] * 2) for i in range(3) for _ in range(2)]
    await cluster.shutdown_all()


async def test_messages_before_the_first_connection_wait_for_it() -> None:
    addresses = book("a", "b")
    a = await started(addresses, "a")
    assert a.get_connected_peers() == []
    sending = asyncio.create_task(a.send_message("b", "greeting", "hello"))
    b = await started(addresses, "b")
    await sending
    assert await first(b) == {"from": "a", "type": "greeting", "payload": "hello"}
    await until(lambda: b.get_connected_peers() == ["a"])
    await a.shutdown()
    await b.shutdown()


async def test_a_lost_peer_is_told_at_once_and_found_again() -> None:
    addresses = book("a", "b")
    a, b = await started(addresses, "a", connect_timeout=0.2), await started(addresses, "b")
    await until(lambda: a.get_connected_peers() == ["b"])
    await b.shutdown()
    await until(lambda: a.get_connected_peers() == [])
    async with asyncio.timeout(20):
        with pytest.raises(RuntimeError, match="No connection to 'b'"):
            await a.send_message("b", "greeting", "hello")
    b = await started(addresses, "b")
    await until(lambda: a.get_connected_peers() == ["b"])
    await a.send_message("b", "greeting", "again")
    assert (await first(b))["payload"] == "again"
    await b.shutdown()
    await a.shutdown()


async def test_a_stranger_cannot_be_reached() -> None:
    context = mesh(book("a"), "a")
    with pytest.raises(RuntimeError, match="not started"):
        await context.send_message("b", "greeting", "hello")
    for _ in range(2):
        await context.start(SimpleNamespace(node_id="a"))
    with pytest.raises(RuntimeError, match="No connection to 'b'"):
        await context.send_message("b", "greeting", "hello")
    for _ in range(2):
        await context.shutdown()
    with pytest.raises(RuntimeError, match="not started"):
        await context.send_message("b", "greeting", "hello")


@pytest.mark.processes
async def test_nodes_of_two_processes_reach_each_other() -> None:
    addresses = book("here", "there")
    here = await started(addresses, "here", connect_timeout=40.0)  # the other process imports for seconds
    ports = (str(addresses[name][1]) for name in ("there", "here"))
    command = [sys.executable, "-c", ECHO, *ports]
    process = await asyncio.create_subprocess_exec(*command)
    await here.send_message("there", "number", 21)
    assert await first(here) == {"from": "there", "type": "echo", "payload": 42}
    assert await process.wait() == 0
    await here.shutdown()
