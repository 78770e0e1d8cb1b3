"""The engine: graphs, actors, nodes, and the two training modes, on Dask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from byzflow.engine.graph.ops import CallableOp, RemoteCallableOp, make_single_operator_graph

if TYPE_CHECKING:
    from byzflow.engine.node.runner import NodeCluster, NodeRunner

__all__ = ("CallableOp", "NodeCluster", "NodeRunner", "RemoteCallableOp", "make_single_operator_graph")


def __getattr__(name: str) -> Any:
    """Import the runners when they are asked for: they load Dask and torch, and graphs need neither."""
    if name in ("NodeCluster", "NodeRunner"):
        from byzflow.engine.node import runner

        return getattr(runner, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
