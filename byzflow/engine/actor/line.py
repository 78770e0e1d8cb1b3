"""Lines: a socket between a caller and a host on the same machine, for small calls, as those of rounds are.

A message of Dask's passes through layers that take as long as the calls of a hundred small nodes. A line
carries numbered requests and answers, any number of them under way, the answers in any order. What is inside
is opened by whoever uses it, as with any parcel. How the two ends find each other is in `dial`.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate, count, pairwise
from typing import Any, NamedTuple

import msgpack

from byzflow.engine.actor.parcel import Parcel
from byzflow.engine.actor.sendable import portable
from byzflow.engine.actor.tray import Left
from byzflow.exceptions import NodeLostError

__all__ = ("METHODS", "Answerer", "Caller", "Line", "LineCutError", "Message")

METHODS = frozenset({"call_many"})  # of a parcel and plain values; answered with a parcel, or what is `Left`
MARK = b"bzf1"
HEAD = struct.Struct("<4sIQ")  # the mark, bytes of the envelope, bytes of the frames
SMALL = 1024 * 1024  # [bytes] of a request, or an envelope; what is larger is as fast by Dask
BACKLOG = 4 * 1024 * 1024  # [bytes] that may wait for a host that does not read


class LineCutError(NodeLostError):
    """A line was cut while a call was under way, and the worker lives: it may have been made, or not."""


class Message(NamedTuple):
    """A request or an answer: its number, what it is, plain values, and the frames of a parcel.

    Examples
    --------
    >>> inbox = bytearray(Message(7, "call_many", (1, 2.5), [b"head", b"tail"]).packed() + MARK)
    >>> Message.taken(inbox)
    Message(number=7, kind='call_many', plain=[1, 2.5], frames=[bytearray(b'head'), bytearray(b'tail')])
    >>> Message.taken(inbox), inbox
    (None, bytearray(b'bzf1'))
    """

    number: int
    kind: str
    plain: Sequence[Any] = ()
    frames: Sequence[Any] = ()

    def packed(self) -> bytes:
        """Return it as it travels."""
        sizes = [memoryview(frame).nbytes for frame in self.frames]
        envelope = msgpack.packb((self.number, self.kind, self.plain, sizes))
        return b"".join((HEAD.pack(MARK, len(envelope), sum(sizes)), envelope, *self.frames))

    @classmethod
    def taken(cls, inbox: bytearray) -> Message | None:
        """Take the first message from what has come, if that is complete; `ValueError` if it is none."""
        if len(inbox) < HEAD.size:
            return None
        mark, length, rest = HEAD.unpack_from(inbox)
        if mark != MARK or length > SMALL:
            raise ValueError("A message must begin with its mark and a short envelope; this does not.")
        begin = HEAD.size + length
        if len(inbox) < begin + rest:
            return None
        number, kind, plain, sizes = _checked(bytes(inbox[HEAD.size : begin]), rest)
        frames = [inbox[start:end] for start, end in pairwise(accumulate(sizes, initial=begin))]
        del inbox[: begin + rest]
        return cls(number, kind, plain, frames)


class Line(asyncio.Protocol):
    """One end of a line. Only `close` may be called outside the event loop that connected it."""

    def __init__(self) -> None:
        self._inbox = bytearray()
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None

    @property
    def is_open(self) -> bool:
        """Whether the other end is there, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Hang up, when what has been written is gone."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._transport.close)

    def send(self, message: Message) -> None:
        """Write a message, without waiting; nothing if the line is closed."""
        if self.is_open:
            self._transport.write(message.packed())

    def received(self, message: Message) -> None:
        """Do what a message wants; `ValueError` if that is nothing."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand on the messages that are complete; hang up on what is none."""
        self._inbox += data
        try:
            while self.is_open and (message := Message.taken(self._inbox)) is not None:
                self.received(message)
        except ValueError:
            self._transport.abort()


class Caller(Line):
    """The end of the caller."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Message]] = {}

    def takes(self, blob: Parcel) -> bool:
        """Whether a call with this parcel should go here."""
        if not self.is_open or self._transport.get_write_buffer_size() > BACKLOG:
            return False
        return sum(memoryview(frame).nbytes for frame in blob.frames) <= SMALL

    async def call(self, method: str, blob: Parcel, *plain: Any) -> dict[str, Any]:
        """Have the host call one of its methods, and return what `actor_execute` of a Dask worker does.

        Raises
        ------
        ConnectionError
            If the line is cut.
        KeyError
            If the host was released.
        """
        number = next(self._numbers)
        self._waiting[number] = self._loop.create_future()
        try:
            self.send(Message(number, method, plain, blob.frames))
            answer = await self._waiting[number]
        finally:
            del self._waiting[number]  # what comes later is dropped
        parcel = Parcel(frames=list(answer.frames))
        if answer.kind == "released":
            raise KeyError(method)
        if answer.kind == "error":
            return {"status": "error", "exception": parcel.open()}
        left = answer.kind == "left"
        return {"status": "OK", "result": Left(parcel.frames[0], tuple(answer.plain)) if left else parcel}

    def received(self, message: Message) -> None:
        """Give an answer to who waits for it."""
        if message.kind not in ("parcel", "left", "error", "released"):
            raise ValueError("A host must answer; this is something else.")
        waiting = self._waiting.get(message.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who wait."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionResetError("the line to its node host was cut"))


class Answerer(Line):
    """The end of a host.

    Parameters
    ----------
    execute : callable
        ``await execute(function=method, args=args)`` is `actor_execute` of the worker, for this host.
    """

    def __init__(self, execute: Callable[..., Awaitable[dict[str, Any]]]) -> None:
        super().__init__()
        self._execute = execute
        self._tasks: set[asyncio.Task[None]] = set()

    def received(self, message: Message) -> None:
        """Begin a call."""
        if message.kind not in METHODS:
            raise ValueError("A caller must name a method that lines carry; this is something else.")
        task = self._loop.create_task(self._serve(message))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def connection_lost(self, error: Exception | None) -> None:
        """Give up what nobody waits for; calls that objects have begun go on."""
        for task in self._tasks:
            task.cancel()

    async def _serve(self, call: Message) -> None:
        blob = Parcel(frames=list(call.frames))
        try:
            reply = await self._execute(function=call.kind, args=(blob, *call.plain))
        except KeyError:
            self.send(Message(call.number, "released"))
        else:
            self.send(_answer(call.number, reply))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is not None:
            self._transport.abort()  # so that nobody waits for an answer that does not come


def _checked(envelope: bytes, rest: int) -> tuple[int, str, list[Any], list[int]]:
    parts = msgpack.unpackb(envelope)
    if not isinstance(parts, list) or [type(part) for part in parts] != [int, str, list, list]:
        raise ValueError("An envelope must hold a number, a name and two lists; this one does not.")
    number, kind, plain, sizes = parts
    if {int} < {int, *map(type, sizes)} or sum(sizes) != rest or min(sizes, default=0) < 0:
        raise ValueError("An envelope must say how long the frames are; this one does not.")
    return number, kind, plain, sizes


def _answer(number: int, reply: dict[str, Any]) -> Message:
    if reply["status"] == "error":
        return Message(number, "error", (), Parcel(portable(reply["exception"].data)).sealed().frames)
    result = reply["result"].data
    if isinstance(result, Left):
        return Message(number, "left", result.sizes, [result.head])
    return Message(number, "parcel", (), result.frames)
