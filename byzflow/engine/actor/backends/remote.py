"""Objects on the workers of a Dask scheduler that runs elsewhere, over TCP or TLS, and a small one to run."""

from __future__ import annotations

from typing import Any

from distributed import Scheduler, Worker
from distributed.security import Security

from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.clusters import cores
from byzflow.engine.actor.ports import check_port, listening

__all__ = ("RemoteActorBackend", "RemoteActorServer", "start_actor_server")


class RemoteActorBackend(DaskActorBackend):
    """One object on a worker of the scheduler at ``host:port``.

    The peers of a Dask scheduler trust each other: whoever speaks its protocol runs code on all of them.

    Parameters
    ----------
    host : str
        Name or address of the scheduler.
    port : int
        Its port.
    protocol : {"tcp", "tls"}, default "tcp"
        How to speak to it.
    security : distributed.security.Security, optional
        TLS files; default: what ``distributed.comm.tls`` in dask.config says.

    Examples
    --------
    >>> RemoteActorBackend("10.0.0.1", 8786)._spec
    'tcp://10.0.0.1:8786'
    """

    def __init__(
        self, host: str, port: int, *, protocol: str = "tcp", security: Security | None = None
    ) -> None:
        check_port("port", port)
        super().__init__(f"{protocol}://{host}:{port}", scheme=protocol, security=security)


class RemoteActorServer:
    """A Dask scheduler and one worker in this process, for the backends of other processes.

    Larger sites run ``dask scheduler`` and ``dask worker`` instead; a client sees no difference. Whoever
    reaches the port can run code here.

    Parameters
    ----------
    host : str
        Interface to listen on.
    port : int
        Port of the scheduler; 0 for a free one, which `address` tells.
    protocol : {"tcp", "tls", "ucx"}, default "tcp"
        How to speak.
    security : distributed.security.Security, optional
        TLS files; default: what ``distributed.comm.tls`` in dask.config says.

    Examples
    --------
    >>> import asyncio
    >>> async def example():
    ...     async with RemoteActorServer("127.0.0.1", 0) as server:
    ...         return server.address.rpartition(":")[0]
    >>> asyncio.run(example())
    'tcp://127.0.0.1'
    """

    def __init__(
        self, host: str, port: int, *, protocol: str = "tcp", security: Security | None = None
    ) -> None:
        check_port("port", port, least=0)
        self.host = host
        self.port = port
        self._options: dict[str, Any] = {"host": host, "protocol": protocol, "security": security}
        self._scheduler: Any = None
        self._worker: Any = None

    async def __aenter__(self) -> RemoteActorServer:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    @property
    def address(self) -> str:
        """Where the scheduler listens.

        Raises
        ------
        RuntimeError
            Before `start`.
        """
        if self._scheduler is None:
            raise RuntimeError("An address needs a started server; this one is not. Await start() first.")
        return str(self._scheduler.address)

    async def start(self) -> None:
        """Listen, and have the worker ready; again is the same as once.

        Raises
        ------
        OSError
            If the port is taken.
        """
        if self._scheduler is not None:
            return
        web: dict[str, Any] = {"dashboard": False, "dashboard_address": ":0"}  # HTTP it speaks all the same
        self._scheduler = Scheduler(port=self.port, **web, **self._options)
        try:
            with listening(self.host, self.port):
                await self._scheduler
            self._worker = await Worker(
                self._scheduler.address, nthreads=cores(), memory_limit=0, dashboard=False,
                resources={"cpu": cores()}, **self._options,
            )  # fmt: skip
        except BaseException:
            await self.close()
            raise

    async def serve(self) -> None:
        """Start, and run until cancelled or shut down by a client."""
        async with self:
            await self._scheduler.finished()

    async def close(self) -> None:
        """Stop the worker and the scheduler; again is the same as once."""
        worker, self._worker = self._worker, None
        scheduler, self._scheduler = self._scheduler, None
        if worker is not None:
            await worker.close()
        if scheduler is not None:
            await scheduler.close()


async def start_actor_server(host: str, port: int) -> None:
    """Serve actors at ``tcp://host:port`` until cancelled; see `RemoteActorServer`."""
    await RemoteActorServer(host, port).serve()
