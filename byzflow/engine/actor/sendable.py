"""Outcomes on their way to another process: what cannot be pickled becomes an error that can."""

from __future__ import annotations

import traceback

from byzflow.engine.actor.calls import LONG, Recorder
from byzflow.engine.actor.columns import Columns
from byzflow.engine.actor.parcel import Parcel, seal, unseal

__all__ = ("portable", "sendable")


def sendable(outcomes: Columns) -> Parcel:
    """Seal outcomes; of one that cannot be pickled, the reason takes the place.

    Errors have to be `portable` already.

    Examples
    --------
    >>> import threading
    >>> outcomes = sendable(Columns([2, threading.Lock()], {})).open()
    >>> outcomes[0].value, type(outcomes[1].error).__name__
    (2, 'TypeError')
    """
    with Recorder() as record:
        return Parcel(outcomes).sealed()
    if record.error is not None:  # one of them cannot be pickled: find it, and keep the others
        others, outcomes.others = outcomes.others, {}
        for position, value in others.items():
            with Recorder() as one:
                seal(value)
            if one.error is None:
                outcomes.others[position] = value
            else:
                outcomes.errors[position] = portable(one.error)
    return Parcel(outcomes).sealed()


def portable(error: BaseException) -> BaseException:
    """Return what can be unpickled on the other side, with the trace that a pickle would lose."""
    note = text = "an error that cannot be read"
    with Recorder():
        note = "On the worker:\n" + "".join(traceback.format_exception(error))[:LONG]
        text = f"{type(error).__name__}: {error}"[:LONG]
    with Recorder():
        BaseException.add_note(error, note)
        BaseException.with_traceback(error, None)  # a pickle would hold what its frames' modules are called
        copy = unseal(seal(error))
        if type(copy) is type(error):
            return error
    stand_in = RuntimeError(text)
    stand_in.add_note(note)
    return stand_in
