"""Messages inside this process: a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from byzflow.engine.transport.base import Transport

__all__ = ("LocalTransport",)


class LocalTransport(Transport):
    """Calls the handler of a node in the thread that sends, and raises what it raises.

    Examples
    --------
    >>> transport = LocalTransport()
    >>> transport.register("a", print)
    >>> transport.send("a", "hello")
    hello
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Callable[[Any], None]] = {}

    def register(self, node_id: str, handler: Callable[[Any], None]) -> None:
        """Call ``handler(payload)`` for every message to a node; the last one wins."""
        self._handlers[node_id] = handler

    def send(self, to_id: str, payload: Any) -> None:
        """Call a node's handler.

        Raises
        ------
        KeyError
            If there is no such node.
        """
        if to_id not in self._handlers:
            raise KeyError(
                f"Unknown node_id {to_id!r}; there is {sorted(self._handlers)}. Register it first."
            )
        self._handlers[to_id](payload)
