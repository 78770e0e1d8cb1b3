"""The other end of a `RemoteNodeServer`, and how a message becomes bytes."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import cloudpickle
from distributed.core import rpc

from byzflow.engine.actor.ports import check_port
from byzflow.engine.config import seconds

__all__ = ("RemoteNodeClient", "deserialize_message", "serialize_message")

OFFICE = "PostOffice"  # what a server says that it is
WAIT = 60.0  # how long who reads messages for a node waits for one before it looks again [seconds]
TURN = 5.0  # how long one request for a message may stay open [seconds]


def serialize_message(msg: Any) -> bytes:
    """Return a message as bytes; functions and classes of the user's script are shipped by value.

    Examples
    --------
    >>> deserialize_message(serialize_message({"type": "greeting"}))
    {'type': 'greeting'}
    """
    return bytes(cloudpickle.dumps(msg))


def deserialize_message(data: bytes) -> Any:
    """Return the message that `serialize_message` made bytes of. It runs what the sender put in."""
    return pickle.loads(data)


class RemoteNodeClient:
    """A connection to a `RemoteNodeServer`, for one node.

    Parameters
    ----------
    host : str
        Name or address of the server.
    port : int
        Its port.

    Examples
    --------
    >>> RemoteNodeClient("10.0.0.1", 8888).is_connected()
    False
    """

    def __init__(self, host: str, port: int) -> None:
        check_port("port", port)
        self.host = host
        self.port = port
        self._node_id: str | None = None
        self._rpc: Any = None
        self._holding: Any = None  # a connection of its own, which no cancelled request cuts
        self._received = 0
        self._sending = asyncio.Lock()
        self._reading = asyncio.Lock()

    def is_connected(self) -> bool:
        """Whether `connect` found the server, and `disconnect` was not called since."""
        return self._rpc is not None

    async def connect(self, timeout: float | None = None) -> None:
        """Find the server; again is the same as once.

        Parameters
        ----------
        timeout : float, optional
            How long to look for it [seconds]; by default ``byzflow.comm.connect-timeout``.

        Raises
        ------
        ConnectionError
            If none answers in that time, or something else does.
        """
        if self._rpc is not None:
            return
        limit = seconds("comm.connect-timeout") if timeout is None else timeout
        found = rpc(f"tcp://{self.host}:{self.port}", timeout=limit)
        try:
            async with asyncio.timeout(limit):  # it waits for good for who takes a call and says nothing
                answer = await found.identity()
        except (OSError, TimeoutError) as error:
            await found.close_rpc()
            said = str(error) or f"not within {limit} s"
            raise self._refused(f"none answered ({said})") from error
        if answer.get("type") != OFFICE:
            await found.close_rpc()
            raise self._refused(f"what answered is a {answer.get('type')} of Dask")
        self._rpc = found

    async def disconnect(self) -> None:
        """Give up the mailbox and the connection; again is the same as once."""
        node, self._node_id = self._node_id, None
        try:
            if self._rpc is not None and node is not None:
                await self._rpc.leave(node=node)
        except OSError:  # the server went first
            pass
        finally:
            await self.hang_up()

    async def hang_up(self) -> None:
        """Give up the connection, but leave the mailbox where it is; again is the same as once."""
        opened = self._rpc, self._holding
        self._rpc = self._holding = None
        for found in opened:
            if found is not None:
                await found.close_rpc()

    async def register_node(self, node_id: str) -> None:
        """Make the mailbox of a node, which stays for as long as this process, or until `disconnect`."""
        await self._hold("register", node_id)
        self._node_id, self._received = node_id, 0

    async def send_message(
        self, to_node_id: str, message_type: str, payload: Any, from_node_id: str | None = None
    ) -> None:
        """Send to a node that has registered, waiting while its mailbox is full; in the order of the calls.

        Parameters
        ----------
        from_node_id : str, optional
            Who sends; by default the node that `register_node` named.

        Raises
        ------
        ValueError
            If there is no such node.
        """
        sender = self._node_id if from_node_id is None else from_node_id
        message = {"from": sender, "type": message_type, "payload": payload}
        async with self._sending:
            is_known = await self._connected().send(to=to_node_id, frame=serialize_message(message))
        if not is_known:
            raise ValueError(
                f"A message needs a node that runs; {to_node_id!r} is unknown or has left. Register it first."
            )

    async def receive_message(self, timeout: float | None = None) -> dict[str, Any] | None:
        """Return the next message, or None if there is none within `timeout` [seconds].

        A message whose reader was cancelled is kept for the next one.

        Raises
        ------
        ConnectionError
            Before `connect` and `register_node`, after `disconnect`, and where the mailbox is there no more.
        """
        frame = await self.receive_frame(timeout)
        return None if frame is None else deserialize_message(frame)

    async def receive_frame(self, timeout: float | None = None) -> bytes | None:
        """As `receive_message`, but leave it to the caller to open the message, which may fail."""
        clock = asyncio.get_running_loop().time
        end = float("inf") if timeout is None else clock() + timeout
        async with self._reading:
            while True:
                left = max(0.0, end - clock())
                answer = await self._connected().receive(
                    node=self._registered(), received=self._received, timeout=min(left, TURN)
                )
                if answer is False:
                    await self._hold_again()
                elif answer is not None:
                    self._received = answer[0]
                    return bytes(answer[1])
                elif clock() >= end:
                    return None

    async def _hold_again(self) -> None:
        node = self._registered()
        if not await self._hold("hold", node):
            raise ConnectionError(
                f"Node {node!r} needs its mailbox; the server has none: it was started anew, or was "
                "out of reach for longer than byzflow.channel.return-deadline. Await register_node() again."
            )

    async def _hold(self, operation: str, node: str) -> bool:
        """Have the server hold a mailbox for as long as a new connection is open; give up the former one."""
        office = self._connected()
        holding = rpc(office.address, timeout=office.timeout)
        former, self._holding = self._holding, holding
        if former is not None:
            await former.close_rpc()
        return bool(await getattr(holding, operation)(node=node))

    def _refused(self, said: str) -> ConnectionError:
        return ConnectionError(
            f"A RemoteNodeServer must listen at {self.host}:{self.port}; {said}. "
            "Start one with: await RemoteNodeServer(host, port).serve(), or check the address."
        )

    def _registered(self) -> str:
        if self._node_id is None:
            raise ConnectionError(
                "A message needs a registered node; this client has none. Await register_node() first."
            )
        return self._node_id

    def _connected(self) -> Any:
        if self._rpc is None:
            raise ConnectionError(
                "A message needs a connected client; this one is not. Await connect() first."
            )
        return self._rpc
