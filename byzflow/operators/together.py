"""Coroutines side by side, of which the first error is the one that counts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

__all__ = ("together",)

T = TypeVar("T")


async def together(jobs: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results in the order given; the first error ends the others and is raised as it is.

    Examples
    --------
    >>> async def twice(x):
    ...     return 2 * x
    >>> asyncio.run(together(map(twice, range(3))))
    [0, 2, 4]
    """
    first: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    if first is not None:
        raise first  # here, so that it does not hold the others as its context
    return [task.result() for task in tasks]
