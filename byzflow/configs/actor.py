"""A second name for `resolve_backend`, for strings only."""

from __future__ import annotations

from byzflow.engine.actor.base import ActorBackend
from byzflow.engine.actor.factory import resolve_backend

__all__ = ("set_actor",)


def set_actor(spec: str) -> ActorBackend:
    """Return a backend for its name or address; see `resolve_backend`.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> set_actor("thread")
    <ThreadActorBackend object-... on thread>
    """
    return resolve_backend(spec)
