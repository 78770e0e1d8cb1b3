"""What a `NodeCluster` needs of whatever carries its messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ("Transport",)


class Transport(Protocol):
    """Brings messages to the handlers of nodes; anything with these two methods is one."""

    def register(self, node_id: str, handler: Callable[[Any], None]) -> None:
        """Call ``handler(payload)`` for every message to a node."""

    def send(self, to_id: str, payload: Any) -> None:
        """Send a message to a node.

        Raises
        ------
        KeyError
            If there is no such node.
        """
