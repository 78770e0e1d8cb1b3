"""The way to the event loop of a Dask client, from any other loop and from none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from byzflow.engine.actor.connection import ClientClosedError, Connection
from byzflow.engine.actor.deadline import until

__all__ = ("Portal", "ended")

P = ParamSpec("P")
T = TypeVar("T")


class Portal:
    """Runs coroutine functions on the loop of a client.

    Parameters
    ----------
    connection : Connection
        The client, open or not yet.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @property
    def client(self) -> Any:
        """The Dask client, synchronous unless it is the user's and is not."""
        return self.connection.client

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the client."""
        loop: asyncio.AbstractEventLoop = self.client.loop.asyncio_loop
        return loop

    def begin(self, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start a coroutine function on the client's loop, whoever waits for it.

        Raises
        ------
        ClientClosedError
            If the client was closed.
        """
        if not self.connection.is_alive:
            raise ClientClosedError
        return asyncio.run_coroutine_threadsafe(_coroutine(fn, args, kwargs), self.loop)

    async def run(self, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a coroutine function on the client's loop, awaited from any running loop.

        Cancellation and exceptions pass through; `ClientClosedError` if the client was closed meanwhile.
        """
        if asyncio.get_running_loop() is self.loop:
            return await fn(*args, **kwargs)
        return await asyncio.wrap_future(self.begin(fn, *args, **kwargs))

    def run_sync(self, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a coroutine function on the client's loop and wait, also inside another running loop.

        Raises
        ------
        RuntimeError
            If called on the client's own loop, which could then never answer.
        """
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self.loop:
            raise RuntimeError(
                "run_sync() must not be called on the loop of the Dask client; it was. "
                "Await run() instead, or use a client with asynchronous=False."
            )
        return asyncio.run_coroutine_threadsafe(_coroutine(fn, args, kwargs), self.loop).result()


async def ended(work: Future[Any], limit: float | None) -> bool:
    """Wait until something that was begun is over, at most `limit` [seconds], and say whether it is.

    It goes on when the waiting is cancelled.
    """
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def tell(work: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # nobody waits any more, and the loop is closed
            loop.call_soon_threadsafe(over.set_result, None)

    work.add_done_callback(tell)
    await until([over], limit)
    return work.done()


async def _coroutine(fn: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> T:
    return await fn(*args, **kwargs)
