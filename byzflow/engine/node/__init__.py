"""Nodes: what users derive from, where nodes live, how they are called, and what they run."""

from __future__ import annotations

from byzflow.engine.graph.ops import CallableOp, RemoteCallableOp, make_single_operator_graph
from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor, NodeActor, Recipe
from byzflow.engine.node.application import (
    ByzantineNodeApplication,
    HonestNodeApplication,
    NodeApplication,
    NodePipeline,
)
from byzflow.engine.node.base import ByzantineNode, HonestNode, Node
from byzflow.engine.node.cluster import DecentralizedCluster
from byzflow.engine.node.context import (
    DaskContext,
    InProcessContext,
    NodeContext,
    ProcessContext,
    RemoteContext,
)
from byzflow.engine.node.decentralized import DecentralizedNode
from byzflow.engine.node.distributed import DistributedByzantineNode, DistributedHonestNode
from byzflow.engine.node.mixin import P2PByzantineMixin, P2PHonestMixin
from byzflow.engine.node.remote_client import RemoteNodeClient, deserialize_message, serialize_message
from byzflow.engine.node.remote_server import RemoteNodeServer
from byzflow.engine.node.router import MessageRouter
from byzflow.engine.node.torch import TorchByzantineNode, TorchHonestNode

__all__ = (
    "ByzantineNode",
    "ByzantineNodeActor",
    "ByzantineNodeApplication",
    "CallableOp",
    "DaskContext",
    "DecentralizedCluster",
    "DecentralizedNode",
    "DistributedByzantineNode",
    "DistributedHonestNode",
    "HonestNode",
    "HonestNodeActor",
    "HonestNodeApplication",
    "InProcessContext",
    "MessageRouter",
    "Node",
    "NodeActor",
    "NodeApplication",
    "NodeContext",
    "NodePipeline",
    "P2PByzantineMixin",
    "P2PHonestMixin",
    "ProcessContext",
    "Recipe",
    "RemoteCallableOp",
    "RemoteContext",
    "RemoteNodeClient",
    "RemoteNodeServer",
    "TorchByzantineNode",
    "TorchHonestNode",
    "deserialize_message",
    "make_single_operator_graph",
    "serialize_message",
)
