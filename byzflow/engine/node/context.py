"""How messages get from one node to another: inside this process, or through workers of a Dask cluster."""

from __future__ import annotations

from byzflow.engine.node.local_context import InProcessContext, NodeContext
from byzflow.engine.node.mailed_context import DaskContext, MailedContext, ProcessContext, RemoteContext

__all__ = (
    "DaskContext",
    "InProcessContext",
    "MailedContext",
    "NodeContext",
    "ProcessContext",
    "RemoteContext",
)
