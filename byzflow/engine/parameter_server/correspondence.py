"""Gradients over a transport: one side answers requests, the other asks and waits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from byzflow.engine.actor.calls import Recorder
from byzflow.engine.transport.base import Transport

__all__ = ("Correspondent", "Desk", "serve_gradients")


def serve_gradients(
    transport: Transport, worker_id: str, gradient: Callable[[], Any], *, server_id: str = "server"
) -> None:
    """Answer every request that reaches a worker with ``gradient()``, or with what that raises.

    Parameters
    ----------
    transport : Transport
        Of this program; it has to know the server.
    worker_id : str
        Name of the worker here; the program of the server passes it to `ParameterServerRunner`.
    gradient : callable
        Returns a vector, shape ``(d,)``.
    server_id : str, default "server"
        Where answers go.

    Examples
    --------
    >>> from byzflow.engine.transport.local import LocalTransport
    >>> transport = LocalTransport()
    >>> desk = Desk(transport, "server")
    >>> serve_gradients(transport, "w0", lambda: [1.0])
    >>> asyncio.run(Correspondent(desk, "w0").honest_gradient_for_next_batch())
    [1.0]
    """

    def answer(number: int) -> None:
        value = None
        with Recorder() as record:
            value = gradient()
        transport.send(server_id, (number, value, record.error))

    transport.register(worker_id, answer)


class Desk:
    """Where answers come in, each for a request that is numbered.

    Parameters
    ----------
    transport : Transport
        Carries requests and answers.
    name : str
        Name of the desk on the transport.
    """

    def __init__(self, transport: Transport, name: str) -> None:
        self._transport = transport
        self._numbers = itertools.count()
        self._open: dict[int, Future[Any]] = {}
        transport.register(name, self._file)

    async def ask(self, worker_id: str) -> Any:
        """Ask a worker, wait for its answer, and return or raise what it says."""
        number, answer = next(self._numbers), Future[Any]()
        self._open[number] = answer
        try:
            await asyncio.to_thread(self._transport.send, worker_id, number)
            return await asyncio.wrap_future(answer)
        finally:
            del self._open[number]

    def _file(self, letter: tuple[int, Any, BaseException | None]) -> None:
        number, value, error = letter
        answer = self._open.get(number)
        if answer is None or answer.done():  # nobody waits any more
            return
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)


class Correspondent:
    """A node of a `ParameterServer` whose gradients are asked for at a desk."""

    def __init__(self, desk: Desk, worker_id: str) -> None:
        self._desk, self._worker_id = desk, worker_id

    async def honest_gradient_for_next_batch(self) -> Any:
        """Return the worker's next gradient, shape ``(d,)``."""
        return await self._desk.ask(self._worker_id)

    def apply_server_gradient(self, gradient: Any) -> None:
        """A function has no model to update."""
