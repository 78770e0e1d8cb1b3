"""A Dask client and what had to be opened for it, which is what has to be closed again."""

from __future__ import annotations

import asyncio
from typing import Any

from distributed import Client
from distributed.security import Security

from byzflow.engine.actor.clusters import EMBEDDED, close, dashboard_link, require_scheduler, revive
from byzflow.engine.actor.quiet import QUIET
from byzflow.engine.config import seconds
from byzflow.exceptions import NodeLostError

__all__ = ("ClientClosedError", "Connection")


class ClientClosedError(NodeLostError):
    """The client that reaches the nodes was closed, by somebody or as its scheduler went: no node did it."""

    def __init__(self) -> None:
        super().__init__(
            "A call needs a Dask client; this one was closed, by somebody or as its scheduler is gone. Make "
            "a new one, spawn the nodes on it again, and resume from a checkpoint."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return ClientClosedError, ()


class Connection:
    """A client for a backend string, an address, or a client or cluster of the user's.

    Parameters
    ----------
    spec : str or Client or Cluster
        What to connect to.
    security : distributed.security.Security, optional
        TLS files for an address; default: what dask.config has.

    Attributes
    ----------
    client : distributed.Client
        None until open. Synchronous, with a loop in a thread of its own, unless the user's is not.
    is_borrowed : bool
        Whether the client is the user's.
    is_async : bool
        Whether opening and closing has to happen on the user's event loop.
    """

    def __init__(self, spec: Any, security: Security | None) -> None:
        self.client: Any = None
        self.is_borrowed = isinstance(spec, Client)
        self.is_async = not isinstance(spec, str) and bool(spec.asynchronous)
        self._spec = spec
        self._security = security
        self._cluster: Any = None
        self._is_quiet = False

    @property
    def dashboard_link(self) -> str | None:
        """Where the dashboard is, or None without one."""
        link = dashboard_link(self._cluster) if self._cluster else self.client.dashboard_link
        return str(link) if link else None

    @property
    def is_open(self) -> bool:
        """Whether the scheduler is there, as far as the client knows."""
        return self.client is not None and self.client.status == "running"

    @property
    def is_closed(self) -> bool:
        """Whether somebody has closed the client."""
        return self.client is not None and self.client.status in ("closing", "closed")

    @property
    def is_alive(self) -> bool:
        """Whether the client's loop still runs."""
        return self.client is not None and bool(self.client.loop.asyncio_loop.is_running())

    def revive(self) -> None:
        """Replace workers of an embedded cluster that will not come back; call it on the client's loop."""
        if self._cluster is not None:
            revive(self._cluster)

    def open(self) -> None:
        """Start or find the cluster and connect; blocks."""
        if self.is_borrowed:
            self.client = self._spec
        elif not isinstance(self._spec, str):
            self.client = Client(self._spec, set_as_default=False)
        elif self._spec in EMBEDDED:
            QUIET.begin()
            self._is_quiet = True
            self._cluster = EMBEDDED[self._spec]()
            self.client = Client(self._cluster, set_as_default=False, direct_to_workers=True)
        else:
            security = self._security or Security()
            require_scheduler(self._spec, security)
            limit = seconds("comm.connect-timeout")
            self.client = Client(self._spec, security=security, timeout=limit, set_as_default=False)

    async def open_async(self) -> None:
        """Connect on the user's own loop."""
        if self.is_borrowed:
            self.client = self._spec
        else:
            self.client = await Client(self._spec, asynchronous=True, set_as_default=False)

    async def listener(self) -> Any:
        """Return a client to subscribe with; a second one where the user may subscribe too."""
        if not self.is_borrowed:
            return self.client
        if not self.is_open:
            raise ConnectionError(
                f"A backend needs a connected client; this one is {self.client.status}. Make a new Client."
            )
        return await Client(
            self.client.scheduler.address,
            asynchronous=True,
            set_as_default=False,
            timeout=seconds("comm.connect-timeout"),
            security=self.client.security,
            name="byzflow-signal",
        )

    def close(self) -> None:
        """Close what was opened; blocks."""
        if self.client is not None and not self.is_borrowed:
            self.client.close()
        if self._cluster is not None:
            close(self._cluster)
        if self._is_quiet:
            self._is_quiet = False
            QUIET.end()

    async def close_async(self) -> None:
        """Close what was opened, from any loop."""
        if not self.is_async:
            await asyncio.to_thread(self.close)
        elif self.client is not None and not self.is_borrowed:
            await self.client.close()
