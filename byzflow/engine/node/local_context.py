"""What carries messages between nodes, and the simplest kind: queues of one event loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from byzflow.engine.config import setting
from byzflow.engine.node.inbox import Inbox

__all__ = ("InProcessContext", "NodeContext", "QueuedContext", "reached", "require_started", "stopped")

C = TypeVar("C", bound="NodeContext")


class NodeContext(ABC):
    """Where a `DecentralizedNode` lives; carries messages ``{"from", "type", "payload"}``.

    Attributes
    ----------
    group : mapping of str to NodeContext
        The contexts of the nodes of one cluster, by id. Those that find each other in this process look here
        first: another cluster may have nodes of the same ids.
    """

    group: Mapping[str, NodeContext] = MappingProxyType({})

    @abstractmethod
    async def start(self, node: Any) -> None:
        """Take a node in; again is the same as once."""

    @abstractmethod
    async def send_message(self, to_node_id: str, message_type: str, payload: Any) -> None:
        """Send to another node.

        Raises
        ------
        RuntimeError
            Before `start`.
        ValueError
            If there is no such node, or it has stopped.
        """

    @abstractmethod
    def receive_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield messages as they come, until `shutdown`."""

    @abstractmethod
    async def shutdown(self) -> None:
        """Let the node go; what it has not read is dropped. Again is the same as once."""


class QueuedContext(NodeContext):
    """A context whose node reads from a queue of this event loop."""

    def __init__(self) -> None:
        self._node: Any = None
        self._running = False
        self._inbox = Inbox()

    async def receive_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield messages as they come, until `shutdown`."""
        inbox = self._inbox
        while self._running and (message := await inbox.get()) is not None:
            yield message

    def _take_in(self, node: Any) -> None:
        self._node, self._running = node, True
        self._inbox = Inbox(int(setting("channel.capacity")))

    def _let_go(self) -> None:
        """Forget the node and what it has not read; end its reader, and who waits to send to it."""
        self._node, self._running = None, False
        inbox, self._inbox = self._inbox, Inbox()
        inbox.close()


class InProcessContext(QueuedContext):
    """Messages between nodes of one event loop, by reference, through a queue for each node.

    Examples
    --------
    >>> import asyncio
    >>> from types import SimpleNamespace as Node
    >>> async def example():
    ...     here, there = InProcessContext(), InProcessContext()
    ...     await here.start(Node(node_id="here"))
    ...     await there.start(Node(node_id="there"))
    ...     await here.send_message("there", "greeting", "hello")
    ...     async for message in there.receive_messages():
    ...         break
    ...     await here.shutdown()
    ...     await there.shutdown()
    ...     return message
    >>> asyncio.run(example())
    {'from': 'here', 'type': 'greeting', 'payload': 'hello'}
    """

    _registry: ClassVar[dict[str, InProcessContext]] = {}

    async def start(self, node: Any) -> None:
        """Take a node in; again is the same as once."""
        if self._running:
            return
        self._take_in(node)
        self._registry[node.node_id] = self

    async def send_message(self, to_node_id: str, message_type: str, payload: Any) -> None:
        """Put a message into the queue of another node, waiting while that is full."""
        require_started(self._running)
        target = reached(InProcessContext, self, to_node_id, self._registry)
        message = {"from": self._node.node_id, "type": message_type, "payload": payload}
        if not await target._inbox.take_in(message):
            raise stopped(to_node_id)

    async def shutdown(self) -> None:
        """Let the node go; what it has not read is dropped. Again is the same as once."""
        if not self._running:
            return
        if self._registry.get(self._node.node_id) is self:
            del self._registry[self._node.node_id]
        self._let_go()


def require_started(running: bool) -> None:
    """Raise RuntimeError unless a context is started.

    Examples
    --------
    >>> require_started(True)
    """
    if not running:
        raise RuntimeError("send_message() needs a started context; this one is not started. Await start().")


def reached(kind: type[C], context: NodeContext, node_id: str, registry: Mapping[str, C]) -> C:
    """Return the started context of another node, one of the same cluster if there is one of that name.

    Raises
    ------
    ValueError
        If there is none of this kind.

    Examples
    --------
    >>> reached(InProcessContext, InProcessContext(), "nobody", {})
    Traceback (most recent call last):
        ...
    ValueError: A message needs a node that runs; 'nobody' is unknown or has stopped. Start it first.
    """
    target: Any = context.group.get(node_id, registry.get(node_id))
    if isinstance(target, NodeContext) and not isinstance(target, kind):
        raise ValueError(
            f"A message needs a context of the receiver's kind; {node_id!r} has a {type(target).__name__}, "
            f"and this is a {type(context).__name__}. Give both nodes the same."
        )
    if not isinstance(target, kind) or not getattr(target, "_running", False):
        raise stopped(node_id)
    return target


def stopped(node_id: str) -> ValueError:
    """Return the error of a message to a node that does not run, or not any more.

    Examples
    --------
    >>> stopped("nobody")
    ValueError("A message needs a node that runs; 'nobody' is unknown or has stopped. Start it first.")
    """
    return ValueError(
        f"A message needs a node that runs; {node_id!r} is unknown or has stopped. Start it first."
    )
