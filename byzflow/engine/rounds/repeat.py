"""Calls that do no harm if they are made twice: they are made again if the line to their host is cut."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from typing import Any

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.actor.line import LineCutError
from byzflow.engine.actor.sweeps import Chain, Sweep
from byzflow.engine.rounds.resident import ASKED

__all__ = ("repeatable", "sent")

MOST = 10  # times that a call is made; lines that are always cut must not go on for ever

HARMLESS = frozenset((*ASKED, "resident_methods", "resident_save", "resident_state"))
"""Methods of a `Resident` that change nothing, or name their run and round and act once."""


def repeatable(calls: Sequence[Call]) -> bool:
    """Whether a node acts once, however often these calls come.

    Examples
    --------
    >>> repeatable([Call("node-3", "resident_call", (0, "step"))]), repeatable([Call("node-3", "step")])
    (True, False)
    """
    if isinstance(calls, Sweep):
        return calls.method in HARMLESS
    if isinstance(calls, Chain):
        return all(map(repeatable, calls.parts))
    return all(call.method in HARMLESS for call in calls)


async def sent(
    host: Any, calls: Sequence[Call], deadline: float | None, *, always: bool = False
) -> Sequence[Outcome]:
    """Make calls; make them again, in what is left of the time, if their line was cut and the worker lives.

    Parameters
    ----------
    host : Host
        Where to.
    calls, deadline
        As `HostRef.call_many` takes them.
    always : bool, default False
        Whether they may be made twice even if they are none of those of rounds.

    Raises
    ------
    NodeLostError
        If the worker is gone, or the line was cut and the calls must not be made again.
    DeadlineError
        If it does not answer in time.
    """
    begin, left = time.monotonic(), deadline
    for attempt in count(1):
        try:
            outcomes: Sequence[Outcome] = await host.call_many(calls, left)
        except LineCutError:
            if attempt == MOST or not (always or repeatable(calls)):
                raise
            left = None if deadline is None else max(0.0, deadline - (time.monotonic() - begin))
        else:
            break
    return outcomes
