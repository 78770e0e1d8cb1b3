"""Carries vectors along edges as messages of the contexts that a user brings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from byzflow.engine.actor.deadline import until
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.engine.node.application import NodeApplication
from byzflow.engine.node.cluster import DecentralizedCluster
from byzflow.engine.node.context import InProcessContext, NodeContext
from byzflow.engine.node.decentralized import DecentralizedNode
from byzflow.engine.node.ending import end
from byzflow.engine.peer_to_peer.letters import Came
from byzflow.exceptions import DeadlineError

__all__ = ("MESSAGE", "Carrier", "ContextFactory", "Edges")

MESSAGE = "gradient"

ContextFactory = Callable[[str, int], NodeContext]
Edges = Mapping[tuple[int, int], Any]


class Carrier:
    """One `DecentralizedNode` for each node, with ids ``"0"``, ``"1"``, …, and the way between them.

    Parameters
    ----------
    n : int
        Number of nodes.
    topology : Topology or None
        Whom they may send to; None, for topologies that change: whoever it is.
    factory : callable, optional
        ``factory(node_id, index)`` makes the context of a node. Without it the cluster exists, but is not
        started: vectors travel by the calls to the nodes' hosts alone.
    pool : ActorPool, optional
        Where the pipelines of these nodes run; by default in this process.
    """

    def __init__(
        self, n: int, topology: Any, factory: ContextFactory | None, pool: ActorPool | None = None
    ) -> None:
        if factory is not None and not callable(factory):
            raise TypeError(
                "context_factory must be callable with a node's id and its index; got "
                f"{type(factory).__name__}. Pass a function, or None."
            )
        self.cluster = DecentralizedCluster()
        self.carries = factory is not None
        self._n, self._topology = n, topology
        self._pool = pool or ActorPool([ActorPoolConfig("thread")])  # it starts with its first work
        self._factory: ContextFactory = factory or (lambda node_id, index: InProcessContext())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._expected: dict[tuple[int, int, int], asyncio.Future[Any]] = {}

    async def start(self) -> None:
        """Make the nodes and, if they are to carry anything, start them."""
        names = {index: str(index) for index in range(self._n)}
        for index, name in names.items():
            node = DecentralizedNode(
                node_id=name,
                application=NodeApplication(name=name, actor_pool=self._pool),
                context=self._factory(name, index),
                topology=self._topology,
                node_id_map=names,
            )
            self.cluster.take_in(node)
        if self.carries:
            await self.cluster.start_all()
            self._listen()

    async def carry(self, number: int, letters: Edges, deadline: float | None) -> dict[tuple[int, int], Came]:
        """Send vectors along edges and wait for them at the other end.

        Parameters
        ----------
        number : int
            Number of the round.
        letters : mapping of (sender, receiver) to vector
            What to send.
        deadline : float or None
            Seconds until what has not arrived counts as lost.

        Returns
        -------
        dict of (sender, receiver) to Came
            What arrived, or why it did not.

        Raises
        ------
        RuntimeError
            In another event loop than the one that the contexts were started in, unless that is closed: then
            they start again in this one.
        """
        await self._move()
        tasks = {
            edge: asyncio.create_task(self._send(number, edge, vector)) for edge, vector in letters.items()
        }
        try:
            await until(tasks.values(), deadline)
            late = Came(error=DeadlineError("its vector did not arrive before the deadline"))
            return {edge: task.result() if task.done() else late for edge, task in tasks.items()}
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def close(self) -> None:
        """Stop the nodes."""
        await end(self._readers)
        await self.cluster.shutdown_all()
        await self._pool.shutdown()

    def _listen(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._readers = [asyncio.create_task(self._read(index)) for index in range(self._n)]

    async def _move(self) -> None:
        """Start the nodes anew if the loop is gone that they ran in."""
        if self._loop is asyncio.get_running_loop():
            return
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError(
                "Contexts need the event loop they were started in; this is another one. "
                "Await round() there, or leave context_factory away."
            )
        for node in self.cluster.nodes.values():  # one by one, so that what they share has a user all along
            await node.shutdown()
            await node.start()
        self._listen()

    async def _send(self, number: int, edge: tuple[int, int], vector: Any) -> Came:
        sender, receiver = edge
        answer = self._expected[number, sender, receiver] = asyncio.get_running_loop().create_future()
        payload = {"vector": vector, "round": number, "from": sender}
        try:
            await self.cluster.nodes[str(sender)].send_message(str(receiver), MESSAGE, payload)
            return Came(await answer)
        except (OSError, RuntimeError, ValueError) as error:
            return Came(error=error)
        finally:
            del self._expected[number, sender, receiver]

    async def _read(self, receiver: int) -> None:
        """Take a node's messages; what nobody waits for, late or twice or none of a round's, is dropped."""
        scheduler = self.cluster.nodes[str(receiver)].scheduler
        while True:
            payload = await scheduler.wait_for_message(MESSAGE)
            if not _is_of_a_round(payload):  # users and other programs may send messages of this type too
                continue
            answer = self._expected.get((payload["round"], payload["from"], receiver))
            if answer is not None and not answer.done():
                answer.set_result(payload["vector"])


def _is_of_a_round(payload: Any) -> bool:
    if not isinstance(payload, dict) or payload.keys() != {"vector", "round", "from"}:
        return False
    return type(payload["round"]) is type(payload["from"]) is int
