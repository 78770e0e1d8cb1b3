"""Several decentralized nodes that start, find each other and stop together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from byzflow.engine.node.application import NodeApplication
from byzflow.engine.node.context import NodeContext, ProcessContext
from byzflow.engine.node.decentralized import DecentralizedNode
from byzflow.operators.together import together

__all__ = ("DecentralizedCluster",)


class DecentralizedCluster:
    """Nodes by id; the index of a node in a topology is the order in which it was added.

    The place of one that is removed is left to it, if it is added again, or to the next new one.

    Examples
    --------
    >>> cluster = DecentralizedCluster()
    >>> cluster.get_node("nobody") is None
    True
    """

    def __init__(self) -> None:
        self.nodes: dict[str, DecentralizedNode] = {}
        self._group: dict[str, NodeContext] = {}
        self._places: list[str] = []

    async def __aenter__(self) -> DecentralizedCluster:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.shutdown_all()

    async def add_node(
        self,
        node_id: str,
        application: NodeApplication,
        *,
        topology: Any = None,
        metadata: Mapping[str, Any] | None = None,
        context: NodeContext | None = None,
    ) -> DecentralizedNode:
        """Add a node; it starts with `start_all` or by itself.

        Parameters
        ----------
        context : NodeContext, optional
            Default: a `ProcessContext`.

        Raises
        ------
        ValueError
            If there is a node of this id.
        """
        if node_id in self.nodes:
            raise ValueError(f"Node {node_id!r} already exists. Choose another id.")
        node = DecentralizedNode(
            node_id=node_id,
            application=application,
            context=ProcessContext() if context is None else context,
            topology=topology,
            metadata=metadata,
        )
        self.take_in(node)
        self._update_node_id_maps()
        return node

    def take_in(self, node: DecentralizedNode) -> None:
        """Add a node as it is, with the names of the others that it has."""
        self.nodes[node.node_id] = node
        if isinstance(node.context, NodeContext):
            self._group[node.node_id] = node.context
            node.context.group = self._group

    async def start_all(self) -> None:
        """Start every node; if one fails, or this is cancelled, those that were started stop again."""
        self._update_node_id_maps()
        try:
            await together(node.start() for node in self.nodes.values())
        except BaseException:
            await self.shutdown_all()
            raise

    async def shutdown_all(self) -> None:
        """Stop every node, then raise what the first one raised, if any; again is the same as once."""
        stops = (node.shutdown() for node in self.nodes.values())
        for error in await asyncio.gather(*stops, return_exceptions=True):
            if error is not None:
                raise error

    def get_node(self, node_id: str) -> DecentralizedNode | None:
        """Return a node, or None."""
        return self.nodes.get(node_id)

    async def remove_node(self, node_id: str) -> None:
        """Stop a node and take it out; an unknown id is ignored."""
        node = self.nodes.pop(node_id, None)
        self._group.pop(node_id, None)
        if node is not None:
            await node.shutdown()
            self._update_node_id_maps()

    def _update_node_id_maps(self) -> None:
        """Tell every node who is where; who has no place yet gets the first that is free."""
        free = (index for index, name in enumerate(self._places) if name not in self.nodes)
        for name in [name for name in self.nodes if name not in self._places]:
            index = next(free, len(self._places))
            self._places[index : index + 1] = [name]
        names = dict(enumerate(self._places))
        for node in self.nodes.values():
            node.message_router.node_id_map = dict(names)
