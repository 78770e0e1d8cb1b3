"""What a Dask client fetches, whatever becomes of other things that it fetches at the time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

__all__ = ("fetched",)

MOST = 10  # times that something is fetched

T = TypeVar("T")

_given_up: set[asyncio.Future[Any]] = set()
"""Fetches that nobody waits for any more; each ends with its client, if not before."""


async def fetched(fetch: Callable[[], Awaitable[T]]) -> T:
    """Return what is fetched from a client's cluster, without harm to other fetches if that is given up.

    A client joins what is fetched at the same time in one request. Who waits for that and is cancelled would
    cancel it for all others, or for ever, if it has not yet begun. So it goes on, and nobody waits for it.

    Parameters
    ----------
    fetch : callable
        Returns what gives the value when it is awaited, as ``client.gather`` does; it may be called again.

    Raises
    ------
    RuntimeError
        If other users of the client have its requests cancelled all the time.

    Examples
    --------
    >>> async def value():
    ...     return 3
    >>> asyncio.run(fetched(value))
    3
    """
    for _ in range(MOST):
        fetching = asyncio.ensure_future(fetch())
        try:
            await asyncio.wait([fetching])
        except asyncio.CancelledError:
            _given_up.add(fetching)
            fetching.add_done_callback(_end)
            raise
        if not fetching.cancelled():
            return fetching.result()
    raise RuntimeError(
        f"What a Dask client fetches must arrive; others who use the client had it cancelled {MOST} times. "
        "Use a client of your own here."
    )


def _end(fetching: asyncio.Future[Any]) -> None:
    _given_up.discard(fetching)
    if not fetching.cancelled():
        fetching.exception()  # seen, so that nobody is told that it was not
