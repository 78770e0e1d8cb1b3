"""From one worker to another: calls on the objects of a host, without the client in between."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distributed import get_worker
from distributed.protocol.serialize import to_serialize

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.actor.deadline import until
from byzflow.engine.actor.parcel import Parcel
from byzflow.exceptions import DeadlineError, NodeLostError

__all__ = ("Neighbour", "call_neighbours")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The node host of another worker: its address and key."""

    address: str
    key: str


async def call_neighbours(
    calls: Mapping[Neighbour, Sequence[Call]], deadline: float | None
) -> dict[Neighbour, list[Outcome]]:
    """Call objects of other hosts, with one message for each host; from an object of a host here.

    Raises
    ------
    NodeLostError
        If a host is gone.
    DeadlineError
        If one does not answer in time.
    """
    worker: Any = get_worker()

    async def everyone() -> list[list[Outcome]]:
        answers = asyncio.gather(*(_call(worker, to, queue, deadline) for to, queue in calls.items()))
        try:
            await until([answers], deadline)
            if answers.done():
                return answers.result()
            raise DeadlineError(
                f"Other hosts had to answer within {deadline} s; they did not. Raise the deadline."
            )
        finally:
            answers.cancel()

    answers = await asyncio.wrap_future(
        asyncio.run_coroutine_threadsafe(everyone(), worker.loop.asyncio_loop)
    )
    return dict(zip(calls, answers, strict=True))


async def _call(worker: Any, to: Neighbour, calls: Sequence[Call], deadline: float | None) -> list[Outcome]:
    blob = Parcel(list(calls)).sealed()
    try:
        reply = await worker.rpc(to.address).actor_execute(
            actor=to.key, function="call_many", args=[to_serialize(blob), len(calls), deadline]
        )
    except (OSError, KeyError) as error:
        raise NodeLostError(f"A host needs its neighbour {to.address}; that is gone ({error}).") from error
    if reply["status"] != "OK":
        raise reply["exception"]
    outcomes: list[Outcome] = reply["result"].open()
    return outcomes
