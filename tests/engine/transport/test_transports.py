"""A transport brings every message to its handler, in order, in this program or in another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import dask
import pytest
import torch

from byzflow.engine.transport import tcp
from byzflow.engine.transport.local import LocalTransport
from byzflow.engine.transport.tcp import TcpTransport
from byzflow.engine.transport.tcp_simple import TcpMailbox, send_message


@pytest.fixture(params=[LocalTransport, TcpTransport])
def transport(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    if request.param is TcpTransport:
        made.close()
        made.close()


def test_messages_reach_their_handler_in_order(transport: Any) -> None:
    got: queue.Queue[Any] = queue.Queue()
    transport.register("a", lambda payload: got.put(("a", payload)))
    transport.register("b", lambda payload: transport.send("a", 2 * payload))
    for i in range(5):
        transport.send("b", i)
    assert [got.get(timeout=10) for _ in range(5)] == [("a", 2 * i) for i in range(5)]


def test_a_node_that_nobody_registered_is_a_key_error(transport: Any) -> None:
    transport.register("a", print)
    with pytest.raises(KeyError, match="Unknown node_id 'z'"):
        transport.send("z", 1)


def test_a_handler_that_fails_is_logged_and_gets_the_next_message(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = threading.Event()
    logged: list[Any] = []
    monkeypatch.setattr(tcp.logger, "error", lambda *words, exc_info: logged.append((words[1], exc_info)))

    def handler(payload: Any) -> None:
        if payload == "bad":
            raise ZeroDivisionError("in a handler")
        heard.set()

    with TcpTransport() as transport:
        transport.register("a", handler)
        transport.send("a", "bad")
        transport.send("a", "good")
        assert heard.wait(10)
    [(name, error)] = logged
    assert (name, str(error)) == ("a", "in a handler")


def test_a_node_is_registered_once_over_tcp_and_anew_locally() -> None:
    with TcpTransport() as transport:
        transport.register("a", print)
        with pytest.raises(ValueError, match="already registered"):
            transport.register("a", print)
    got: list[Any] = []
    local = LocalTransport()
    for name in ("first", "second"):
        local.register("a", lambda payload, name=name: got.append((name, payload)))
    local.send("a", 1)
    assert got == [("second", 1)]


def test_transports_that_share_a_table_reach_each_others_nodes() -> None:
    got: queue.Queue[Any] = queue.Queue()
    with TcpTransport() as here:
        here.register("a", got.put)
        with TcpTransport(here.addresses) as there:
            there.register("b", lambda payload: there.send("a", payload + 1))
            here.addresses["b"] = there.addresses["b"]
            here.send("b", 1)
            assert got.get(timeout=10) == 2


def test_a_mailbox_keeps_what_is_sent_until_it_is_read() -> None:
    with TcpMailbox() as mailbox:
        for i in range(3):
            send_message((mailbox.host, mailbox.port), torch.full((2,), float(i)))
        assert [mailbox.recv(10).tolist() for _ in range(3)] == [[float(i)] * 2 for i in range(3)]
        with pytest.raises(queue.Empty):
            mailbox.recv(timeout=0.01)


def test_a_closed_mailbox_lets_its_readers_go_and_takes_nothing() -> None:
    mailbox = TcpMailbox()
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(queue.Empty):
            mailbox.recv()
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(2):
        mailbox.close()
    assert ended.wait(10)
    reader.join()
    with pytest.raises(queue.Empty, match="closed"):
        mailbox.recv()
    with dask.config.set({"byzflow.comm.connect-timeout": "100ms"}), pytest.raises(ConnectionError):
        send_message((mailbox.host, mailbox.port), "hello")
