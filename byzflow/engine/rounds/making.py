"""Nodes as they are made on their host: for whoever asked for them, and anew for a run that lost them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from byzflow.engine.actor.calls import Recorder
from byzflow.engine.actor.lane import has_coroutines
from byzflow.engine.rounds.harmless import harmless_error
from byzflow.engine.rounds.resident import AsyncResident, Resident

__all__ = ("build", "rebuild")


def build(
    factory: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Resident | AsyncResident:
    """Make a node from a class or any factory, on the host where it is to live.

    Examples
    --------
    >>> build(dict, kwargs={"a": 1}).items()
    dict_items([('a', 1)])
    """
    node = factory(*args, **(kwargs or {}))
    if inspect.iscoroutine(node):
        node.close()
        raise TypeError("A factory must return a node; got a coroutine. Make it a plain function, not async.")
    return AsyncResident(node) if has_coroutines(node) else Resident(node)


def rebuild(*recipe: Any) -> Resident | AsyncResident:
    """Make a node anew, as `build` does of the same; of an error, raise what is harmless.

    Examples
    --------
    >>> rebuild(list).__len__()
    0
    """
    with Recorder() as record:
        return build(*recipe)
    assert record.error is not None
    raise harmless_error(record.error)
