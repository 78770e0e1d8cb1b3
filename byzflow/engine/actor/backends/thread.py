"""Objects in threads of this process; objects and data pass by reference."""

from __future__ import annotations

from byzflow.engine.actor.backends.dask import DaskActorBackend

__all__ = ("ThreadActorBackend",)


class ThreadActorBackend(DaskActorBackend):
    """One object in threads of this process; objects and data pass by reference.

    Its calls run one after another, but not all in the same thread: with a thread for each object, a round
    of a thousand nodes would wait for threads rather than for nodes. What is bound to one thread, such as a
    connection of `sqlite3`, is for a class with an ``async`` method: all calls of such an object, though not
    its constructor, run in one thread.

    Examples
    --------
    >>> ThreadActorBackend()._spec
    'thread'
    """

    def __init__(self) -> None:
        super().__init__("thread", scheme="thread")
