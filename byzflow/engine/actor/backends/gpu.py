"""Objects on GPUs: worker processes of dask-cuda, or an existing scheduler over UCX."""

from __future__ import annotations

from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.backends.remote import RemoteActorServer
from byzflow.engine.actor.ports import check_port
from byzflow.exceptions import require

__all__ = ("GPUActorBackend", "UCXRemoteActorBackend", "UCXRemoteActorServer", "start_ucx_actor_server")


class GPUActorBackend(DaskActorBackend):
    """One object in a worker process with a GPU of its own; needs the ``gpu`` extra.

    Examples
    --------
    >>> GPUActorBackend()._spec
    'gpu'
    """

    def __init__(self) -> None:
        super().__init__("gpu", scheme="gpu")


class _NeedsUcx:
    """Something whose start needs the package that speaks UCX."""

    async def start(self) -> None:
        """Start.

        Raises
        ------
        MissingExtraError
            If distributed-ucxx is not installed.
        """
        require("distributed_ucxx", extra="gpu")
        await super().start()  # type: ignore[misc]  # of the class it is mixed into


class UCXRemoteActorBackend(_NeedsUcx, DaskActorBackend):
    """One object on a worker of the scheduler at ``ucx://host:port``; needs the ``gpu`` extra.

    Examples
    --------
    >>> UCXRemoteActorBackend("10.0.0.1", 8786)._spec
    'ucx://10.0.0.1:8786'
    """

    def __init__(self, host: str, port: int) -> None:
        check_port("port", port)
        super().__init__(f"ucx://{host}:{port}", scheme="ucx")


class UCXRemoteActorServer(_NeedsUcx, RemoteActorServer):
    """A `RemoteActorServer` that speaks UCX; needs the ``gpu`` extra.

    Examples
    --------
    >>> UCXRemoteActorServer("10.0.0.1", 8786).port
    8786
    """

    def __init__(self, host: str = "0.0.0.0", port: int = 0) -> None:
        super().__init__(host, port, protocol="ucx")


async def start_ucx_actor_server(host: str = "0.0.0.0", port: int = 0) -> None:
    """Serve actors at ``ucx://host:port`` until cancelled; see `UCXRemoteActorServer`."""
    await UCXRemoteActorServer(host, port).serve()
