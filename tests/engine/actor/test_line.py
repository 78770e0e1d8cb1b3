"""Lines without hosts: messages, answers in any order, and what a line does with nonsense."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pickle import UnpicklingError
from typing import Any

import msgpack
import pytest
from distributed.protocol.serialize import to_serialize

from byzflow.engine.actor.line import BACKLOG, HEAD, MARK, SMALL, Answerer, Caller, Message
from byzflow.engine.actor.parcel import Parcel
from byzflow.engine.actor.tray import Left


def head(length: int, rest: int = 0, mark: bytes = MARK) -> bytes:
    return HEAD.pack(mark, length, rest)


def enveloped(content: Any, rest: bytes = b"") -> bytes:
    envelope = msgpack.packb(content)
    return head(len(envelope), len(rest)) + envelope + rest


NONSENSE = {
    "a web browser": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another mark": head(3, mark=b"bzf2") + b"abc",
    "an envelope that is too large": head(SMALL + 1),
    "an envelope that is no msgpack": head(3) + b"\xc1\xc1\xc1",
    "an envelope that is cut": head(2) + b"\x94\x01",
    "no list": enveloped(7),
    "too short a list": enveloped([1, "call_many", []]),
    "a name that is a list": enveloped([1, [], [], []]),
    "a name that nobody knows": enveloped([1, "close", [], []]),
    "a number that is a list": enveloped([[], "parcel", [], []]),
    "keys that cannot be": head(4) + b"\x81\x91\x01\x01",
    "sizes that are no numbers": enveloped([1, "parcel", [], ["2"]], b"ab"),
    "sizes that do not add up": enveloped([1, "call_many", [], [3]], b"ab"),
    "sizes below zero": enveloped([1, "call_many", [], [4, -2]], b"ab"),
}


class Host:
    """Answers with what it is given, when told to."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[Any] = asyncio.Queue()
        self.gates: dict[Any, asyncio.Future[Any]] = {}

    async def execute(self, function: str, args: tuple[Any, ...]) -> dict[str, Any]:
        value = args[0].open()
        self.gates[value] = asyncio.get_running_loop().create_future()
        self.seen.put_nowait(value)
        result = await self.gates[value]
        return {"status": "OK", "result": to_serialize(Parcel(result).sealed())}


@asynccontextmanager
async def connected(execute: Callable[..., Awaitable[Any]]) -> AsyncIterator[tuple[Caller, Answerer]]:
    loop = asyncio.get_running_loop()
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    _, caller = await loop.create_unix_connection(Caller, sock=ends[0])
    _, answerer = await loop.create_unix_connection(lambda: Answerer(execute), sock=ends[1])
    try:
        async with asyncio.timeout(30):
            yield caller, answerer
    finally:
        for line in (caller, answerer):
            line._transport.abort()
        for _ in range(3):  # turns of the loop until the sockets are closed
            await asyncio.sleep(0)
    assert [end.fileno() for end in ends] == [-1, -1]
    assert not caller._waiting
    assert not answerer._tasks


def call(caller: Caller, value: Any) -> asyncio.Task[dict[str, Any]]:
    return asyncio.ensure_future(caller.call("call_many", Parcel(value).sealed()))


async def result(task: asyncio.Task[dict[str, Any]]) -> Any:
    return (await task)["result"].open()


async def always(reply: Any) -> Any:
    return reply


@pytest.mark.parametrize("step", [1, 7, 64, 10**6])
def test_messages_come_out_as_they_went_in_however_they_are_cut(step: int) -> None:
    messages = [
        Message(0, "parcel", [], []),
        Message(1, "call_many", [None, True, -3, 2.5, b"\xff", [4, 5]], [b"head", b"", bytes(range(256))]),
        Message(2**63, "é", [2**40], [b"x" * 5000]),
    ]
    stream = b"".join(message.packed() for message in messages)
    inbox, taken = bytearray(), []
    for start in range(0, len(stream), step):
        inbox += stream[start : start + step]
        while (message := Message.taken(inbox)) is not None:
            taken.append(message)
    assert taken == messages
    assert not inbox


async def test_answers_come_in_any_order_and_find_who_asked() -> None:
    host = Host()
    async with connected(host.execute) as (caller, _):
        tasks = {name: call(caller, name) for name in "abc"}
        assert [await host.seen.get() for _ in "abc"] == ["a", "b", "c"]
        for name in "cab":
            host.gates[name].set_result(name * 2)
            assert await result(tasks[name]) == name * 2


async def test_a_call_that_is_cancelled_is_forgotten_and_its_late_answer_dropped() -> None:
    host = Host()
    async with connected(host.execute) as (caller, _):
        given_up, other = call(caller, "a"), call(caller, "b")
        assert [await host.seen.get() for _ in "ab"] == ["a", "b"]
        given_up.cancel()
        await asyncio.wait([given_up])
        assert len(caller._waiting) == 1
        host.gates["a"].set_result("late")
        host.gates["b"].set_result("in time")
        assert await result(other) == "in time"


async def test_calls_and_answers_larger_than_any_buffer_of_the_system_arrive() -> None:
    async def echo(function: str, args: tuple[Any, ...]) -> Any:
        return {"status": "OK", "result": to_serialize(args[0])}

    async with connected(echo) as (caller, _):
        large = [bytes([n]) * (3 << 20) for n in range(3)]
        assert await asyncio.gather(*(result(call(caller, value)) for value in large)) == large


async def test_what_is_left_in_a_tray_is_told() -> None:
    left = Left(b"head", (3, 70000))
    async with connected(lambda **_: always({"status": "OK", "result": to_serialize(left)})) as (caller, _):
        assert (await call(caller, 1))["result"] == left


async def test_an_error_of_the_host_is_a_reply_and_the_line_goes_on() -> None:
    class Local(Exception):  # noqa: N818
        """Cannot be found by its name."""

    replies = [ValueError("no"), Local("odd")]
    failing = lambda **_: always({"status": "error", "exception": to_serialize(replies.pop(0))})  # noqa: E731
    async with connected(failing) as (caller, _):
        first, second = await call(caller, 1), await call(caller, 2)
        assert (first["status"], repr(first["exception"])) == ("error", "ValueError('no')")
        assert "odd" in str(second["exception"])


async def test_a_parcel_that_cannot_be_opened_is_its_own_trouble() -> None:
    reply = {"status": "OK", "result": to_serialize(Parcel(frames=[b"no pickle"]))}
    async with connected(lambda **_: always(reply)) as (caller, _):
        for _ in range(2):
            with pytest.raises(UnpicklingError):
                (await call(caller, 1))["result"].open()
        assert caller.is_open


async def test_a_host_that_was_released_is_a_key_error_as_dask_has_it() -> None:
    async def released(**_: Any) -> Any:
        raise KeyError("the actor")

    async with connected(released) as (caller, _):
        with pytest.raises(KeyError):
            await call(caller, 1)
        assert caller.is_open


async def test_an_answer_that_cannot_be_sent_cuts_the_line_so_that_nobody_waits() -> None:
    reply = {"status": "OK", "result": to_serialize("no parcel")}
    async with connected(lambda **_: always(reply)) as (caller, answerer):
        with pytest.raises(ConnectionError, match="was cut"):
            await call(caller, 1)
        assert not answerer.is_open


async def test_when_the_host_goes_every_call_fails_and_no_other_is_taken() -> None:
    host = Host()
    async with connected(host.execute) as (caller, answerer):
        tasks = [call(caller, name) for name in "ab"]
        await host.seen.get()
        answerer._transport.abort()
        for task in tasks:
            with pytest.raises(ConnectionError, match="was cut"):
                await task
        assert not caller.is_open
        assert not caller.takes(Parcel(1).sealed())


async def test_when_the_caller_goes_the_host_gives_up_what_nobody_waits_for() -> None:
    host = Host()
    async with connected(host.execute) as (caller, answerer):
        task = call(caller, "a")
        await host.seen.get()
        caller.close()
        with pytest.raises(ConnectionError):
            await task
        await asyncio.wait(tuple(answerer._tasks))
        assert host.gates["a"].cancelled()


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE.keys())
@pytest.mark.parametrize("end", ["caller", "host"])
async def test_nonsense_cuts_the_line_and_says_so_to_who_waits(
    end: str, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "asyncio")
    host = Host()
    async with connected(host.execute) as (caller, answerer):
        task = call(caller, "a")
        await host.seen.get()
        (answerer if end == "caller" else caller)._transport.write(said)
        with pytest.raises(ConnectionError, match="was cut"):
            await task
    assert not caplog.records


async def test_large_calls_and_those_that_a_host_does_not_read_are_not_taken() -> None:
    host = Host()
    async with connected(host.execute) as (caller, answerer):
        assert caller.takes(Parcel(bytes(SMALL - 100)).sealed())
        assert not caller.takes(Parcel(bytes(SMALL)).sealed())
        answerer._transport.pause_reading()
        tasks, blob = [], bytes(SMALL // 2)
        while caller.takes(Parcel(blob).sealed()):
            tasks.append(call(caller, blob))
            await asyncio.sleep(0)  # until it is written
            assert len(tasks) < 100
        assert BACKLOG < caller._transport.get_write_buffer_size() < BACKLOG + SMALL
        caller._transport.abort()
        assert len(await asyncio.gather(*tasks, return_exceptions=True)) == len(tasks)
