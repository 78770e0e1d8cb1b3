"""One object in a node host of a Dask worker: everything that the backends have in common."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self
from uuid import uuid4

from distributed import Client
from distributed.deploy.cluster import Cluster
from distributed.security import Security

from byzflow.engine.actor.calls import Call
from byzflow.engine.actor.channels import Endpoint
from byzflow.engine.actor.hostref import HostRef, Recipe
from byzflow.engine.actor.postbox import Numbered, Postbox
from byzflow.engine.actor.runtime import Runtime
from byzflow.operators.together import together

__all__ = ("DaskActorBackend",)


class DaskActorBackend:
    """One object on a worker of a runtime.

    Parameters
    ----------
    spec : str or Client or Cluster
        What `Runtime.acquire` takes.
    scheme : str, default "dask"
        Scheme of its endpoints.
    security : distributed.security.Security, optional
        TLS files for a ``tls://`` scheduler.

    Attributes
    ----------
    runtime : Runtime or None
        Set between `start` and `close`.
    host : HostRef or None
        Set by `construct`: callers with many objects group them by host and use ``host.call_many``.
    object_id : str
        The object's name on that host.
    is_untouched : bool
        Whether the object is as it was made: nobody has called it.
    needs : frozenset of str
        Resources of Dask's that its worker has to have, as far as the cluster has any workers with them.
    patience : float or None
        How long `construct` waits for a worker [seconds]; None: ``byzflow.comm.connect-timeout``.
    moved : object
        Another one whenever one of all backends is given another host.
    """

    moved: ClassVar[object] = object()

    def __init__(
        self, spec: str | Client | Cluster, *, scheme: str = "dask", security: Security | None = None
    ) -> None:
        self._spec = spec
        self._scheme = scheme
        self._security = security
        self.runtime: Runtime | None = None
        self._host: HostRef | None = None
        self.object_id = f"object-{uuid4().hex}"
        self.is_untouched = True
        self.needs: frozenset[str] = frozenset()
        self.patience: float | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.object_id} on {self.host or self._spec}>"

    @property
    def host(self) -> HostRef | None:
        """Where the object is."""
        return self._host

    @host.setter
    def host(self, host: HostRef | None) -> None:
        self._host = host
        DaskActorBackend.moved = object()

    def clone(self) -> Self:
        """Return a backend of the same kind for another object on the same runtime."""
        made = copy.copy(self)
        made.runtime, made._host, made.is_untouched = None, None, True
        made.object_id = f"object-{uuid4().hex}"
        return made

    def plain(self) -> DaskActorBackend:
        """Return a backend on the same runtime for what is ours, which no derived class looks after."""
        return DaskActorBackend(self._spec, scheme=self._scheme, security=self._security)

    async def start(self) -> None:
        """Start or join the runtime.

        Raises
        ------
        ConnectionError
            If its scheduler cannot be reached.
        MissingExtraError
            If it needs a package that is not installed.
        """
        if self.runtime is not None:
            return
        runtime = await Runtime.acquire(self._spec, security=self._security)
        if self._join(runtime) is not runtime:  # another start was faster
            await runtime.release()

    async def construct(
        self,
        cls_or_factory: Callable[..., Any],
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        host: HostRef | None = None,
    ) -> None:
        """Build the object on `host`, or on the one with the fewest objects; starts the runtime if need be.

        Raises
        ------
        RuntimeError
            If there is an object already.
        NodeLostError
            If the worker goes away meanwhile.
        """
        if self.host is not None:
            raise RuntimeError(
                f"A backend holds one object; {self.object_id} is there already. Make another backend."
            )
        await self.start()
        assert self.runtime is not None
        place = host
        if place is None:
            place = await self.runtime.place(patience=self.patience, needs=self.needs)
        else:
            place.load += 1
        try:
            await place.spawn(self.object_id, cls_or_factory, args, kwargs)
        except BaseException:
            place.load -= 1
            raise
        self.host = place

    async def construct_many(self, recipes: Sequence[Recipe]) -> list[DaskActorBackend]:
        """Build many objects on this runtime, with one rpc for each host; return a backend for each.

        Raises
        ------
        Exception
            What the first factory that fails raises; then none of the objects is left.
        """
        await self.start()
        assert self.runtime is not None
        made = [self.clone() for _ in recipes]
        for backend, host in zip(made, await self.runtime.place_many(len(recipes)), strict=True):
            backend.runtime, backend.host = self.runtime.share(), host
        work: dict[HostRef, dict[str, Recipe]] = {}
        for backend, recipe in zip(made, recipes, strict=True):
            work.setdefault(backend._placed(), {})[backend.object_id] = recipe
        try:
            for outcomes in await together(host.spawn_many(part) for host, part in work.items()):
                for outcome in outcomes:
                    outcome.unwrap()
        except BaseException:
            await asyncio.gather(*(backend.close() for backend in made))
            raise
        return made

    async def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the object; see `ActorBackend.call`."""
        host, self.is_untouched = self._placed(), False
        outcomes = await host.call_many([Call(self.object_id, method, args, kwargs)])
        return outcomes[0].unwrap()

    async def close(self) -> None:
        """Forget the object and release the runtime."""
        await self.close_many([self])

    @staticmethod
    async def close_many(backends: Sequence[DaskActorBackend]) -> None:
        """Close backends, with one rpc for each host."""
        gone: dict[HostRef, list[str]] = {}
        for backend in backends:
            if backend.host is not None:
                backend.host.load -= 1
                gone.setdefault(backend.host, []).append(backend.object_id)
            backend.host = None
        try:
            await asyncio.shield(asyncio.gather(*(host.drop(*names) for host, names in gone.items())))
        finally:  # one that is cancelled closes its runtimes too; what it cannot, the next call does
            for backend in backends:
                runtime, backend.runtime = backend.runtime, None
                if runtime is not None:
                    await runtime.release()

    async def get_endpoint(self) -> Endpoint:
        """Return the object's address for channels."""
        host = self._placed()
        return Endpoint(self._scheme, host.address, f"{host.key}/{self.object_id}")

    async def chan_open(self, name: str) -> Endpoint:
        """Make a mailbox and return its endpoint."""
        await self._placed().execute("open_mailbox", self.object_id, name)
        return await self.get_endpoint()

    async def chan_put(self, *, from_ep: Endpoint, to_ep: Endpoint, name: str, payload: Any) -> None:
        """Send to a mailbox on any worker that this process can reach."""
        box = Postbox.at(to_ep, name)
        if box is not None and not isinstance(payload, Numbered):
            await box.put(payload)
            return
        host_key, _, object_id = to_ep.actor_id.partition("/")
        host = self._placed().runtime.host_at(to_ep.address, host_key)
        await host.mail.deliver(object_id, name, host.pack(payload))

    async def chan_get(self, *, ep: Endpoint, name: str, timeout: float | None) -> Any:
        """Return the next message of a mailbox of this object, or None."""
        return await self._placed().mail.receive(self.object_id, name, timeout)

    def _join(self, runtime: Runtime) -> Runtime:
        self.runtime = self.runtime or runtime
        return self.runtime

    def _placed(self) -> HostRef:
        if self.host is None:
            raise RuntimeError(
                f"A call needs a constructed object; {self.object_id} is not, or is closed. "
                "Await construct() first."
            )
        return self.host
