"""Waiting until a deadline on an event loop that may stand still, with answers that it has not read yet.

The machine may be busy or asleep, a cell of a notebook may compute on the same loop: that is nobody's delay.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ("until",)

TURN = 1.0  # [seconds] between two looks, and no more than a part of the deadline
PARTS = 8
STILL = 0.05  # [seconds] that a timer may be late without the loop having stood still


async def until(
    futures: Iterable[asyncio.Future[Any]],
    deadline: float | None,
    *,
    first: bool = False,
    most: float = math.inf,
    look: Callable[[], object] = lambda: None,
) -> None:
    """Wait for futures of this loop until they are done, or `deadline` [seconds] is over.

    Parameters
    ----------
    futures : iterable of asyncio.Future
        What is waited for.
    deadline : float or None
        Seconds in which the loop runs; None to wait for as long as it takes.
    first : bool, default False
        Whether one of them is enough.
    most : float, optional
        Seconds, at most, that are given back where the loop stood still.
    look : callable, optional
        Is called now and then meanwhile.

    Examples
    --------
    >>> async def example():
    ...     never = asyncio.get_running_loop().create_future()
    ...     await until([never], 0.01)
    ...     return never.done()
    >>> asyncio.run(example())
    False
    """
    clock = asyncio.get_running_loop().time
    when = asyncio.FIRST_COMPLETED if first else asyncio.ALL_COMPLETED
    waiting = set(futures)
    enough = len(waiting) - 1 if first else 0
    end, longest = math.inf, TURN
    if deadline is not None:
        end, longest = clock() + deadline, min(TURN, deadline / PARTS)
    while len(waiting) > enough and (left := end - clock()) > 0:
        look()
        begin, turn = clock(), min(longest, left)
        _, waiting = await asyncio.wait(waiting, timeout=turn, return_when=when)
        stood_still = clock() - begin - turn
        if stood_still > STILL:
            back = min(stood_still, most)
            end, most = max(end, clock()) + back, most - back
