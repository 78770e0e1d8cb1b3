"""Mailboxes on a server: what is sent is received once, in order, and only by whom it is for."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import dask
import psutil
import pytest
import torch
from distributed.core import Server

from byzflow.engine.node.context import InProcessContext, RemoteContext
from byzflow.engine.node.decentralized import DecentralizedNode
from byzflow.engine.node.remote_client import RemoteNodeClient
from byzflow.engine.node.remote_server import RemoteNodeServer
from byzflow.engine.peer_to_peer.topology import Topology
from tests.engine.node.test_decentralized import application, cluster_of


@asynccontextmanager
async def client_of(server: RemoteNodeServer, name: str) -> AsyncIterator[RemoteNodeClient]:
    client = RemoteNodeClient("127.0.0.1", server.port)
    await client.connect()
    await client.register_node(name)
    try:
        yield client
    finally:
        await client.disconnect()


async def test_messages_are_received_once_and_in_order() -> None:
    async with (
        RemoteNodeServer("127.0.0.1", 0) as server,
        client_of(server, "a") as a,
        client_of(server, "b") as b,
    ):
        for i in range(3):
            await a.send_message("b", "vector", torch.full((2,), float(i)))
        got = [await b.receive_message(timeout=30) for _ in range(3)]
        assert [(m["from"], m["type"], m["payload"].tolist()) for m in got] == [
            ("a", "vector", [float(i)] * 2) for i in range(3)
        ]
        assert await b.receive_message(timeout=0.01) is None
        assert await a.receive_message(timeout=0.01) is None


async def test_a_receiver_that_waits_gets_the_next_message() -> None:
    async with (
        RemoteNodeServer("127.0.0.1", 0) as server,
        client_of(server, "a") as a,
        client_of(server, "b") as b,
    ):
        waiting = asyncio.create_task(b.receive_message())
        await a.send_message("b", "greeting", "hello")
        assert (await waiting)["payload"] == "hello"


async def test_a_message_whose_reader_was_cancelled_is_kept_for_the_next() -> None:
    async with (
        RemoteNodeServer("127.0.0.1", 0) as server,
        client_of(server, "a") as a,
        client_of(server, "b") as b,
    ):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(b.receive_message(), 0.1)
        await asyncio.gather(*(a.send_message("b", "number", i) for i in range(20)))
        got = [await b.receive_message(timeout=30) for _ in range(20)]
        assert [message["payload"] for message in got] == list(range(20))


async def test_a_message_that_is_there_needs_no_time() -> None:
    async with RemoteNodeServer("127.0.0.1", 0) as server, client_of(server, "a") as a:
        await a.send_message("a", "t", 1)
        message = await a.receive_message(timeout=0)
        assert message is not None
        assert message["payload"] == 1
        assert await a.receive_message(timeout=0) is None


async def test_a_client_that_has_registered_nobody_receives_nothing() -> None:
    async with RemoteNodeServer("127.0.0.1", 0) as server:
        client = RemoteNodeClient("127.0.0.1", server.port)
        await client.connect()
        with pytest.raises(ConnectionError, match="needs a registered node"):
            await client.receive_message(timeout=0)
        await client.disconnect()


async def test_a_server_leaves_nothing_behind() -> None:
    async def restart() -> None:
        servers = RemoteNodeServer("127.0.0.1", 0), RemoteNodeServer("127.0.0.1", 0)
        for server in servers:
            await server.start()
        for server in servers:
            await server.shutdown()

    await restart()
    descriptors, path = psutil.Process().num_fds(), list(sys.path)
    for _ in range(4):
        await restart()
    assert sys.path == path
    assert psutil.Process().num_fds() < descriptors + 4


async def test_a_port_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = RemoteNodeClient("127.0.0.1", silent.getsockname()[1])
        with pytest.raises(ConnectionError, match=r"none answered \(not within 0.2 s\)"):
            await asyncio.wait_for(client.connect(timeout=0.2), 30)
        assert not client.is_connected()


async def test_a_scheduler_is_no_server_of_messages() -> None:
    async with Server({}) as other:
        await other.listen("tcp://127.0.0.1:0")
        context = RemoteContext("127.0.0.1", other.port)
        with pytest.raises(ConnectionError, match="what answered is a Server of Dask"):
            await context.start(SimpleNamespace(node_id="a"))
        assert not context.client.is_connected()


@pytest.mark.parametrize("again", [False, True], ids=["leaves", "registers-anew"])
async def test_senders_to_a_full_mailbox_hear_that_it_is_gone(again: bool) -> None:
    with dask.config.set({"byzflow.channel.capacity": 1}):
        async with (
            RemoteNodeServer("127.0.0.1", 0) as server,
            client_of(server, "a") as a,
            client_of(server, "b") as b,
        ):
            await a.send_message("b", "t", 0)
            remote = asyncio.create_task(a.send_message("b", "t", 1))
            local = asyncio.create_task(server.send_to_client("here", "b", "t", 2))
            await asyncio.wait([local], timeout=0.05)
            await (b.register_node("b") if again else b.disconnect())
            with pytest.raises(ValueError, match="'b' is unknown or has left"):
                await asyncio.wait_for(remote, 30)
            assert not await asyncio.wait_for(local, 30)


async def test_what_a_handler_of_the_servers_process_raises_stays_there(caplog: Any) -> None:
    def fail(sender: str, payload: Any) -> None:
        raise payload

    node = DecentralizedNode(node_id="here", application=application(), context=InProcessContext())
    node.register_message_handler("t", fail)
    async with RemoteNodeServer("127.0.0.1", 0) as server, node, client_of(server, "a") as a:
        await server.register_node(node)
        for error in (LookupError("theirs"), asyncio.CancelledError("theirs")):
            await a.send_message("here", "t", error)
        await a.send_message("here", "value", {"v": 21})
        assert await asyncio.wait_for(node.execute_pipeline("wait", {}), 30) == {"y": 42}
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == [
        "Node here failed on a message"
    ] * 2


async def test_an_unknown_receiver_is_refused() -> None:
    async with RemoteNodeServer("127.0.0.1", 0) as server, client_of(server, "a") as a:
        async with client_of(server, "b"):
            await a.send_message("b", "greeting", "hello")
        with pytest.raises(ValueError, match="'b' is unknown or has left"):
            await a.send_message("b", "greeting", "hello")


async def test_a_node_of_the_servers_process_handles_what_is_sent_to_it() -> None:
    class Node:
        node_id = "here"
        got: list[Any] = []

        async def handle_incoming_message(self, sender: str, kind: str, payload: Any) -> None:
            self.got.append((sender, kind, payload))

    async with RemoteNodeServer("127.0.0.1", 0) as server, client_of(server, "a") as a:
        await server.register_node(Node())
        await a.send_message("here", "greeting", {"n": 1})
        assert Node.got == [("a", "greeting", {"n": 1})]


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_node_of_the_servers_process_answers_whoever_wrote_to_it(is_first: bool) -> None:
    async with RemoteNodeServer("127.0.0.1", 0) as server, client_of(server, "far") as far:
        near = [
            DecentralizedNode(node_id=name, application=application(), context=InProcessContext())
            for name in ("near", "other")
        ]
        for node in near:
            for step in (server.register_node(node), node.start())[:: 1 if is_first else -1]:
                await step
        node = near[0]

        async def handler(sender: str, payload: Any) -> None:
            for receiver in (sender, "other"):
                await node.send_message(receiver, "echo", payload + 1)

        node.register_message_handler("number", handler)
        await far.send_message("near", "number", 1)
        echo = {"from": "near", "type": "echo", "payload": 2}
        assert await far.receive_message(timeout=30) == echo
        assert await near[1].scheduler.wait_for_message("echo", timeout=30) == 2
        with pytest.raises(ValueError, match="unknown or has stopped"):
            await node.send_message("nobody", "echo", 1)
        for node in near:
            await node.shutdown()


async def test_a_client_without_a_server_says_so() -> None:
    async with RemoteNodeServer("127.0.0.1", 0) as server:
        client = RemoteNodeClient("127.0.0.1", server.port)
        await client.connect()
        assert client.is_connected()
    await client.disconnect()
    assert not client.is_connected()
    with (
        dask.config.set({"byzflow.comm.connect-timeout": "200ms"}),
        pytest.raises(ConnectionError, match=r"must listen at 127\.0\.0\.1"),
    ):
        await client.connect()
    with pytest.raises(ConnectionError, match="connect"):
        await client.send_message("b", "greeting", "hello")


async def test_a_decentralized_cluster_runs_over_a_server() -> None:
    async with RemoteNodeServer("127.0.0.1", 0) as server:
        cluster = await cluster_of(lambda: RemoteContext("127.0.0.1", server.port), Topology.complete(3))
        got: asyncio.Queue[Any] = asyncio.Queue()

        async def handler(sender: str, payload: Any) -> None:
            await got.put((sender, payload))

        cluster.nodes["b"].register_message_handler("greeting", handler)
        await cluster.nodes["a"].broadcast_message("greeting", "hello")
        assert await asyncio.wait_for(got.get(), 30) == ("a", "hello")
        await cluster.shutdown_all()


async def test_a_reader_ends_when_its_context_shuts_down() -> None:
    async with RemoteNodeServer("127.0.0.1", 0) as server, client_of(server, "a") as a:
        context = RemoteContext("127.0.0.1", server.port)
        assert (context.host, context.port) == ("127.0.0.1", server.port)
        await context.start(SimpleNamespace(node_id="b"))
        await a.send_message("b", "greeting", "hello")
        first = asyncio.Event()

        async def read() -> list[Any]:
            got = []
            async for message in context.receive_messages():
                got.append(message["payload"])
                first.set()
            return got

        reader = asyncio.create_task(read())
        await asyncio.wait_for(first.wait(), 30)
        await context.shutdown()
        assert await asyncio.wait_for(reader, 30) == ["hello"]
        with pytest.raises(RuntimeError, match="not started"):
            await context.send_message("a", "greeting", "hello")


async def test_a_port_that_is_taken_is_named_and_no_socket_stays_open() -> None:
    async with RemoteNodeServer("127.0.0.1", 0) as first:
        with pytest.raises(OSError, match=f"127.0.0.1:{first.port} must be free to listen at"):
            await RemoteNodeServer("127.0.0.1", first.port).serve()
    gc.collect()  # what is left open warns when it is collected


READER = """
import asyncio, sys
from byzflow.engine.node.remote_client import RemoteNodeClient

async def main():
    client = RemoteNodeClient("127.0.0.1", int(sys.argv[1]))
    await client.connect()
    await client.register_node("b")
    print("here", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.processes
async def test_senders_hear_that_the_process_of_a_reader_was_killed() -> None:
    setting = {"byzflow.channel.capacity": 1, "byzflow.channel.return-deadline": "10ms"}
    with dask.config.set(setting):
        async with RemoteNodeServer("127.0.0.1", 0) as server, client_of(server, "a") as a:
            reader = await asyncio.create_subprocess_exec(
                sys.executable, "-c", READER, str(server.port), stdout=asyncio.subprocess.PIPE
            )
            assert reader.stdout is not None
            assert await asyncio.wait_for(reader.stdout.readline(), 60) == b"here\n"
            await a.send_message("b", "t", 0)
            waiting = asyncio.create_task(a.send_message("b", "t", 1))
            await asyncio.wait([waiting], timeout=0.05)
            assert not waiting.done()
            reader.kill()
            with pytest.raises(ValueError, match="'b' is unknown or has left"):
                await asyncio.wait_for(waiting, 30)
            await reader.wait()


async def test_a_node_is_there_as_long_as_its_process_whoever_cancels_its_readers() -> None:
    with dask.config.set({"byzflow.channel.return-deadline": "10ms"}):
        async with (
            RemoteNodeServer("127.0.0.1", 0) as server,
            client_of(server, "a") as a,
            client_of(server, "b") as b,
        ):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(b.receive_message(), 0.05)
            assert await a.receive_message(timeout=0.2) is None
            await a.send_message("b", "t", 1)
            message = await b.receive_message(timeout=30)
            assert message is not None
            assert message["payload"] == 1


@pytest.mark.parametrize("limit", [None, "10ms"], ids=["comes-back", "is-late"])
async def test_a_reader_whose_connections_were_cut_comes_back_to_its_mailbox_or_hears(limit: Any) -> None:
    with dask.config.set({"byzflow.channel.return-deadline": limit}):
        async with (
            RemoteNodeServer("127.0.0.1", 0) as server,
            client_of(server, "a") as a,
            client_of(server, "b") as b,
        ):
            await a.send_message("b", "t", 1)
            for comm in b._holding.comms:
                comm.abort()
            while (await a._rpc.receive(node="b", received=0, timeout=0)) is not False:
                pass
            if limit is None:
                message = await b.receive_message(timeout=30)
                assert message is not None
                assert message["payload"] == 1
                await a.send_message("b", "t", 2)
                return

            async def keep_sending() -> None:
                while True:
                    await a.send_message("b", "t", 2)

            with pytest.raises(ValueError, match="'b' is unknown or has left"):
                await asyncio.wait_for(keep_sending(), 30)
            with pytest.raises(ConnectionError, match="Await register_node"):
                await b.receive_message()
            await b.register_node("b")
            await a.send_message("b", "t", 3)
