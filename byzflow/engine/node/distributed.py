"""Nodes whose own computations run as pipelines on a pool."""

from __future__ import annotations

from byzflow.engine.node.distributed_byzantine import DistributedByzantineNode
from byzflow.engine.node.distributed_honest import DistributedHonestNode

__all__ = ("DistributedByzantineNode", "DistributedHonestNode")
