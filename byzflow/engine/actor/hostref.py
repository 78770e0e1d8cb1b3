"""The client's handle of a node host: one rpc per call, raced against the loss of its worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from distributed.comm.addressing import get_address_host_port
from distributed.protocol.serialize import to_serialize

from byzflow.engine.actor.calls import Call
from byzflow.engine.actor.columns import Columns
from byzflow.engine.actor.connection import ClientClosedError
from byzflow.engine.actor.deadline import until
from byzflow.engine.actor.dial import Bell
from byzflow.engine.actor.fetching import fetched
from byzflow.engine.actor.line import METHODS, Caller, LineCutError
from byzflow.engine.actor.mail import Mail
from byzflow.engine.actor.parcel import Parcel
from byzflow.engine.actor.sweeps import Chain, Sweep
from byzflow.engine.actor.tray import Trays
from byzflow.engine.config import seconds, setting
from byzflow.exceptions import ConfigError, DeadlineError, NodeLostError

if TYPE_CHECKING:
    from byzflow.engine.actor.runtime import Runtime

__all__ = ("HostRef",)

Recipe = tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]

FAREWELL = 0.5  # [seconds] for a cancelled rpc, or a host that is closed, to end in order


class HostRef:
    """A node host on one worker.

    Every method may be awaited from any running event loop, and raises `NodeLostError` promptly when
    the worker is gone, whatever it was doing.

    Attributes
    ----------
    address : str
        Address of the worker.
    key : str
        Key of the Dask actor.
    runtime : Runtime
        The runtime that this host belongs to.
    load : int
        Objects placed here.
    resources : frozenset of str
        Names of the resources of Dask's that the worker has.
    is_silent : bool
        Whether it has not answered the last calls in time, be it to say which of them are late.
    mail : Mail
        The mailboxes of its objects.
    """

    def __init__(self, runtime: Runtime, address: str, key: str | None = None) -> None:
        self.runtime = runtime
        self.address = address
        self.key = key or f"byzflow-host-{uuid4().hex}"
        self.load, self.is_silent = 0, False
        self.resources: frozenset[str] = frozenset()
        self.mail = Mail(self)
        self._trays = Trays()
        self._lost: asyncio.Future[None] = runtime.loop.create_future()
        self._actor: Any = None
        self._reason = "the scheduler removed it"
        self._direct = True
        self._line: Caller | None = None

    def __repr__(self) -> str:
        return f"<HostRef {self.address}{' (lost)' if self.lost else ''}>"

    @property
    def is_here(self) -> bool:
        """Whether its worker is in this very process."""
        return self.address.startswith("inproc://")

    @property
    def lost(self) -> bool:
        """Whether the worker is known to be gone."""
        return self._lost.done()

    async def call_many(self, calls: Sequence[Call], deadline: float | None = None) -> Columns:
        """Run calls on the objects of this host, with one rpc for all of them.

        Parameters
        ----------
        calls : sequence of Call
            A `Sweep`, where they are all the same, or a `Chain`. Calls of different objects run side by
            side, those of one object in the order given. Equal arguments (``is``) travel once and are one
            object on the host.
        deadline : float, optional
            After this many seconds a call that is not done counts as failed with `DeadlineError`; the
            others keep their outcomes. Default: ``byzflow.host.call-deadline``.

        Returns
        -------
        Columns
            A sequence of `Outcome`, in the order of `calls`. What the called code raised is in them, not
            raised.

        Raises
        ------
        NodeLostError
            If the worker is gone or goes away meanwhile. A `LineCutError`, which is one too, if it lives, but
            nobody knows whether it has made the calls.
        DeadlineError
            If the host itself does not answer in time.
        """
        deadline = seconds("host.call-deadline") if deadline is None else deadline
        allowed = None if deadline is None else deadline + (seconds("host.grace") or 0.0)
        known = calls if isinstance(calls, Sweep | Chain) else list(calls)
        blob = self.pack(known, gathered=not isinstance(calls, Sweep) or bool(calls.each))
        with self._trays.lent() as tray:
            spot = None if tray is None else tray.spot
            try:
                reply = await self.execute("call_many", blob, len(calls), deadline, spot, deadline=allowed)
            except DeadlineError:
                self.is_silent = True
                raise
            self.is_silent = False
            outcomes: Columns = self._trays.opened(reply, tray).open()
        return outcomes

    async def spawn(
        self,
        object_id: str,
        factory: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        deadline: float | None = None,
    ) -> None:
        """Build ``factory(*args, **kwargs)`` on this host; raise what that raises."""
        recipes = {object_id: (factory, tuple(args), dict(kwargs or {}))}
        outcomes = await self.spawn_many(recipes, deadline)
        outcomes[0].unwrap()

    async def spawn_many(self, recipes: Mapping[str, Recipe], deadline: float | None = None) -> Columns:
        """Build objects ``factory(*args, **kwargs)`` by object id, with one rpc for all; they share nothing.

        What a factory raises is in its outcome, not raised.
        """
        blob = self.pack([self.pack(recipe) for recipe in recipes.values()])
        reply = await self.execute("spawn_many", list(recipes), blob, deadline=deadline)
        outcomes: Columns = reply.open()
        return outcomes

    async def drop(self, *object_ids: str) -> None:
        """Forget objects; one that is gone already, with its worker or before, is not an error."""
        for object_id in object_ids:
            self.mail.forget(object_id)
        if self.lost:
            return
        with contextlib.suppress(NodeLostError, DeadlineError):
            await self.execute("drop", object_ids, deadline=seconds("comm.connect-timeout"))

    def pack(self, value: Any, *, gathered: bool = False) -> Parcel:
        """Return `value` as it travels to this host: by reference inside this process, else as bytes.

        What is `gathered` is worth it for many calls; see `seal`.

        Raises
        ------
        TypeError
            If it has to be pickled and cannot be.
        """
        parcel = Parcel(value)
        return parcel if self.is_here else parcel.sealed(gathered=gathered)

    async def execute(self, method: str, *args: Any, deadline: float | None = None) -> Any:
        """Call a method of the `NodeHost` itself: the one door for every rpc."""
        return await self.runtime.run(self._execute, method, args, deadline)

    async def _execute(self, method: str, args: tuple[Any, ...], deadline: float | None) -> Any:
        reply = await self.race(self._rpc(method, args), deadline)
        if reply["status"] == "OK":
            return reply["result"]
        raise reply["exception"]

    async def _rpc(self, method: str, args: tuple[Any, ...]) -> Any:
        # Not the proxy of distributed.Actor: that one cannot be cancelled, and for a worker that is gone
        # tries again to reach it for as long as the connect timeout. A frame of its own costs 20 us.
        client = self.runtime.client
        if self.runtime.connection.is_closed:
            raise ClientClosedError
        try:
            if self._line is not None and not self._line.is_open:
                await self._open_line()
            if (line := self._line_for(method, args)) is not None:
                return await self._by_line(line, method, args)
            sent = [to_serialize(arg) if isinstance(arg, Parcel) else arg for arg in args]
            message = {"actor": self.key, "function": method, "args": sent}
            if self._direct:
                if self._actor is None:  # another process has made it, and its scheduler may be another one
                    await self._reach()
                return await client.rpc(self.address).actor_execute(**message)
            return await client.scheduler.proxy(worker=self.address, msg={"op": "actor_execute", **message})
        except OSError as error:
            await asyncio.wait([self._lost], timeout=seconds("host.settle"))
            raise self._gone(str(error)) from error
        except KeyError as error:
            raise self._gone("its node host was released") from error

    async def _reach(self) -> None:
        """Connect, and do not try again for as long as Dask does where nobody listens any more."""
        pool = self.runtime.client.rpc
        try:
            pool.reuse(self.address, await pool.connect(self.address, seconds("host.settle")))
        except OSError:
            if await self._is_deserted():
                self.lose("nobody listens there")
                raise

    async def _is_deserted(self) -> bool:
        """Whether nobody listens where Dask could not connect, as a worker does for as long as it lives."""
        if self.is_here or not self.address.startswith(("tcp://", "tls://")):
            return self.is_here
        try:
            async with asyncio.timeout(seconds("host.settle")):
                _, writer = await asyncio.open_connection(*get_address_host_port(self.address))
        except ConnectionRefusedError:
            return True
        except OSError:  # a timeout is one too
            return False
        writer.close()
        return False

    async def _by_line(self, line: Caller, method: str, args: tuple[Any, ...]) -> Any:
        try:
            return await line.call(method, *args)
        except ConnectionError as error:
            try:
                await self._execute("ping", (), seconds("host.settle"))
            except DeadlineError:
                raise self._gone(str(error)) from error
            raise LineCutError(
                f"A call to worker {self.address} was under way when its connection was lost; the worker "
                "lives, and may have made it, or not. Make it again if that does no harm."
            ) from error

    def _line_for(self, method: str, args: tuple[Any, ...]) -> Caller | None:
        """Return the line, for a call that is small, and its reply too, or else left in a tray."""
        if self._line is None or method not in METHODS or not self._line.takes(args[0]):
            return None
        return self._line if self._trays.suffice(args[-1]) else None

    async def race(self, work: Coroutine[Any, Any, Any], deadline: float | None) -> Any:
        """Await `work` on the client's loop until it ends, the worker is lost, or the deadline passes."""
        task = asyncio.ensure_future(work)
        try:
            await until([task, self._lost], deadline, first=True, look=self.runtime.look)
            if task.done():
                return task.result()
            if self._lost.done():
                raise self._gone(self._reason)
            raise DeadlineError(
                f"Worker {self.address} had to answer within {deadline} s; it did not. "
                "Raise the deadline, or leave its nodes out."
            )
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=FAREWELL)

    async def start(self) -> None:
        """Create the actor on its worker and find out whether that can be reached directly."""
        limit = seconds("host.start-deadline")
        await self.race(self._create(), limit)
        try:
            self.resources = await self._execute("ping", (), seconds("comm.connect-timeout"))
        except (NodeLostError, DeadlineError):
            if self.lost:
                raise
            self._direct = False
            self.resources = await self._execute("ping", (), limit)
        if self._direct and not self.is_here:
            await self._open_line()

    async def _open_line(self) -> None:
        """Have a line for what is small, in place of one that was cut; without one, Dask carries all."""
        self._line = None
        try:
            with Bell() as bell:
                await self._execute("open_line", (bell.name, bell.token), seconds("comm.connect-timeout"))
                connection = bell.picked_up()
        except (OSError, NodeLostError, DeadlineError):
            return
        _, self._line = await self.runtime.loop.create_unix_connection(Caller, sock=connection)
        if self.lost:
            self._line.close()

    async def _create(self) -> None:
        from byzflow.engine.actor.host import NodeHost

        client = self.runtime.client
        self._actor = client.submit(
            NodeHost, self.key, setting("channel.capacity"), key=self.key, actor=True, pure=False,
            workers=[self.address], allow_other_workers=False,
        )  # fmt: skip
        try:
            await fetched(lambda: self._actor)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"Every worker must be able to import byzflow; {self.address} is not ({error}). "
                "Install the same version there as here."
            ) from error
        except (RuntimeError, CancelledError) as error:  # of a worker that goes, Dask says this
            await asyncio.wait([self._lost], timeout=seconds("host.settle"))
            if not self.lost and isinstance(error, RuntimeError):
                raise
            raise self._gone(str(error)) from error

    def lose(self, reason: str = "the scheduler removed it") -> None:
        """Mark the worker as gone: every call under way fails now. On the client's loop."""
        if not self._lost.done():
            self._reason = reason
            self._lost.set_result(None)
        self._trays.close()
        if self._line is not None:
            self._line.close()

    async def stop(self) -> None:
        """Release the objects and the actor. On the client's loop."""
        if not self.lost:
            with contextlib.suppress(NodeLostError, DeadlineError):
                await self._execute("close", (), FAREWELL)
        self.lose()
        if self._actor is not None:
            self._actor.release()

    def _gone(self, reason: str) -> NodeLostError:
        if self.runtime.connection.is_closed:
            return ClientClosedError()
        return NodeLostError(
            f"A call needs its worker {self.address}; that worker is gone ({reason}). "
            "Spawn its nodes again on another worker."
        )
