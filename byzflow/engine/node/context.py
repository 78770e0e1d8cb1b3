"""How messages get from one node to another: in this process, through workers or a server, or straight."""

from __future__ import annotations

from byzflow.engine.node.dask_context import DaskContext, ProcessContext
from byzflow.engine.node.local_context import InProcessContext, NodeContext
from byzflow.engine.node.mailed_context import MailedContext, RemoteContext
from byzflow.engine.node.mesh_context import MeshRemoteContext

__all__ = (
    "DaskContext",
    "InProcessContext",
    "MailedContext",
    "MeshRemoteContext",
    "NodeContext",
    "ProcessContext",
    "RemoteContext",
)
