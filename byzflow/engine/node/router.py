"""Which nodes a node may send to, by a topology over indices and names for them; and sending to several."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from byzflow.engine.actor.calls import Recorder
from byzflow.engine.node.context import NodeContext
from byzflow.engine.node.ending import ends_us

__all__ = ("MessageRouter",)

logger = logging.getLogger(__name__)


class MessageRouter:
    """The neighbours of one node.

    Parameters
    ----------
    topology : Topology or None
        Without one, everything may be sent, but there are no neighbours to broadcast to.
    node_id : int or str
        This node.
    node_id_map : mapping of int to str, optional
        Name of every index of the topology.

    Raises
    ------
    ValueError
        If an integer id is outside the topology.

    Examples
    --------
    >>> from byzflow.engine.peer_to_peer.topology import Topology
    >>> names = {0: "a", 1: "b", 2: "c"}
    >>> MessageRouter(topology=Topology.ring(3), node_id="a", node_id_map=names).can_send_to("b")
    True
    """

    def __init__(
        self, *, topology: Any = None, node_id: int | str, node_id_map: Mapping[int, str] | None = None
    ) -> None:
        if topology is not None and isinstance(node_id, int | np.integer) and not 0 <= node_id < topology.n:
            raise ValueError(
                f"Node {node_id} is not in topology; that has nodes 0 to {topology.n - 1}. Choose one."
            )
        self.topology = topology
        self.node_id = node_id
        self.node_id_map = dict(node_id_map or {})

    def get_out_neighbors(self) -> list[int | str]:
        """Return the nodes that this one sends to, each once, without itself."""
        return self._neighbors("out")

    def get_out_neighbors_internal(self) -> list[int]:
        """Return the indices in the topology of the nodes that this one sends to."""
        return self._indices("out")

    def get_in_neighbors(self) -> list[int | str]:
        """Return the nodes that send to this one, each once, without itself."""
        return self._neighbors("in_")

    def can_send_to(self, target_node_id: int | str) -> bool:
        """Whether this node may send to another."""
        if target_node_id == self.node_id:
            return False
        return self.topology is None or target_node_id in self.get_out_neighbors()

    async def route_direct(
        self, target_node_id: int | str, message_type: str, payload: Any, context: NodeContext
    ) -> None:
        """Send to one node.

        Raises
        ------
        ValueError
            If that is this node, or no neighbour.
        """
        self._require(target_node_id)
        await context.send_message(target_node_id, message_type, payload)  # type: ignore[arg-type]  # ids of the user's

    async def route_broadcast(self, message_type: str, payload: Any, context: NodeContext) -> None:
        """Send to every neighbour; one that it fails for is logged, and does not keep the others from it."""
        for neighbor in self.get_out_neighbors():
            with Recorder() as record:
                await context.send_message(neighbor, message_type, payload)  # type: ignore[arg-type]  # as above
            if record.error is not None:
                if ends_us(record.error):
                    raise record.error
                logger.warning(
                    "Node %s did not get %r from %s: %r", neighbor, message_type, self.node_id, record.error
                )

    async def route_multicast(
        self, target_node_ids: Iterable[int | str], message_type: str, payload: Any, context: NodeContext
    ) -> None:
        """Send to several nodes, after checking all of them; errors come through."""
        targets = list(target_node_ids)
        for target in targets:
            self._require(target)
        for target in targets:
            await context.send_message(target, message_type, payload)  # type: ignore[arg-type]  # as above

    async def route_reply(
        self, original_message: Mapping[str, Any], message_type: str, payload: Any, context: NodeContext
    ) -> None:
        """Send to the node that a message came from."""
        await self.route_direct(original_message["from"], message_type, payload, context)

    async def route_message(
        self,
        target_node_id: int | str | Iterable[int | str] | None,
        message_type: str,
        payload: Any,
        context: NodeContext,
    ) -> None:
        """Send to one node, to several, or (None) to all neighbours."""
        if target_node_id is None:
            await self.route_broadcast(message_type, payload, context)
        elif isinstance(target_node_id, int | str):
            await self.route_direct(target_node_id, message_type, payload, context)
        else:
            await self.route_multicast(target_node_id, message_type, payload, context)

    def _require(self, node_id: int | str) -> None:
        if node_id == self.node_id:
            raise ValueError(f"Node {node_id!r} cannot send to self. Choose another node.")
        if not self.can_send_to(node_id):
            known = self.get_out_neighbors()
            raise ValueError(
                f"Node {node_id!r} is not a neighbor of {self.node_id!r}; that sends to {known}. Choose one."
            )

    def _neighbors(self, side: str) -> list[int | str]:
        return [self.node_id_map.get(index, index) for index in self._indices(side)]

    def _indices(self, side: str) -> list[int]:
        own = self._index()
        if self.topology is None or own is None:
            return []
        if own >= self.topology.n:
            raise ValueError(
                f"Node {self.node_id!r} has index {own}, which is not in topology; that has nodes 0 to "
                f"{self.topology.n - 1}. Take a larger one, or leave nodes out."
            )
        return list(dict.fromkeys(index for index in getattr(self.topology, side)[own] if index != own))

    def _index(self) -> int | None:
        for index, name in self.node_id_map.items():
            if name == self.node_id:
                return index
        return int(self.node_id) if isinstance(self.node_id, int | np.integer) else None
