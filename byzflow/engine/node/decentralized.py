"""A node that runs pipelines, takes messages, and sends to its neighbours."""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any

from byzflow.engine.actor.calls import Recorder
from byzflow.engine.graph.graph import ComputationGraph
from byzflow.engine.graph.ops import CallableOp, make_single_operator_graph
from byzflow.engine.graph.scheduler import MessageAwareNodeScheduler
from byzflow.engine.node.application import NodeApplication
from byzflow.engine.node.context import NodeContext
from byzflow.engine.node.ending import begin, end, ends_us, is_inside
from byzflow.engine.node.router import MessageRouter
from byzflow.operators.checks import acts, mapping

__all__ = ("DecentralizedNode",)

logger = logging.getLogger(__name__)

Handler = Callable[[str, Any], Awaitable[None] | None]


class DecentralizedNode:
    """An application that listens.

    Parameters
    ----------
    node_id : str
        Name among the nodes; not empty.
    application : NodeApplication
        Its pipelines and pool.
    context : NodeContext
        Carries its messages.
    topology : Topology, optional
        Whom it may send to.
    metadata : mapping, optional
        For every operator, with ``node_id``.
    node_id_map : mapping of int to str, optional
        Name of every index of the topology.

    Raises
    ------
    ValueError
        If the id is empty.

    Examples
    --------
    >>> from byzflow.engine.graph.pool import ActorPoolConfig
    >>> from byzflow.engine.node.context import InProcessContext
    >>> app = NodeApplication(name="a", actor_pool=[ActorPoolConfig("thread")])
    >>> op = CallableOp(lambda x: 2 * x, input_mapping={"x": "x"})
    >>> graph = make_single_operator_graph(node_name="y", operator=op, input_keys=["x"])
    >>> app.register_pipeline("twice", graph)
    >>> async def example():
    ...     async with DecentralizedNode(node_id="a", application=app, context=InProcessContext()) as node:
    ...         return await node.execute_pipeline("twice", {"x": 21})
    >>> asyncio.run(example())
    {'y': 42}
    """

    def __init__(
        self,
        *,
        node_id: str,
        application: NodeApplication,
        context: NodeContext,
        topology: Any = None,
        metadata: Mapping[str, Any] | None = None,
        node_id_map: Mapping[int, str] | None = None,
    ) -> None:
        if not node_id:
            raise ValueError(f"node_id must not be empty; got {node_id!r}. Give the node a name.")
        if not hasattr(application, "pool"):
            raise TypeError(
                f"application must be a NodeApplication; got {type(application).__name__}. Make one."
            )
        acts("context", context, "start", "Pass a NodeContext, as InProcessContext().")
        self.node_id = node_id
        self.application = application
        self.context = context
        self.topology = topology
        self.metadata = mapping("metadata", metadata)
        self.message_router = MessageRouter(topology=topology, node_id=node_id, node_id_map=node_id_map)
        self.scheduler = MessageAwareNodeScheduler(
            _nothing(), pool=application.pool, metadata={**self.metadata, "node_id": node_id}
        )
        self._state: dict[str, Any] = {}
        self._message_handlers: dict[str, Handler] = {}
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._pipelines: set[asyncio.Task[Any]] = set()
        self._listening: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._turn: tuple[asyncio.AbstractEventLoop | None, asyncio.Lock] = None, asyncio.Lock()
        self._running = False
        self._is_open = False

    async def __aenter__(self) -> DecentralizedNode:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.shutdown()

    async def start(self) -> None:
        """Start the context and listen; again, also at the same time, is the same as once."""
        async with self._one_at_a_time():
            if self._running:
                return
            await self._close()
            await self.context.start(self)
            self._is_open = self._running = True
            self._listening = begin(self._listen(), f"{self.node_id}-messages")
            self._listening.add_done_callback(self._deafened)

    async def shutdown(self) -> None:
        """Cancel the node's tasks and pipelines, stop its context and its application.

        Again is the same as once. A handler, task or pipeline from which this is called, by way of other
        tasks too, ends by itself. If the caller is cancelled, it goes on, and the next call waits for it.
        """
        stopping = self._stopping
        if stopping is None or stopping.done() or stopping.get_loop() is not asyncio.get_running_loop():
            stopping = self._stopping = begin(self._stop(), f"{self.node_id}-stops")
        elif is_inside(stopping):
            return
        await asyncio.shield(stopping)

    async def execute_pipeline(
        self, pipeline_name: str, inputs: Mapping[str, Any], *, triggered_by: str | None = None
    ) -> dict[str, Any]:
        """Run a pipeline, whose operators and inputs may wait for this node's messages.

        Raises
        ------
        RuntimeError
            Before `start`, and if the node is shut down meanwhile.
        KeyError
            If there is no such pipeline.
        """
        self._require_started()
        told = {**self.application.pipeline_metadata(pipeline_name), **self.scheduler.metadata}
        if triggered_by is not None:
            told["triggered_by"] = triggered_by
        # Several pipelines may wait at once: each has its own graph, all share the mailbox.
        runner = copy.copy(self.scheduler)
        runner.graph = self.scheduler.graph = self.application.pipeline(pipeline_name).graph
        runner.metadata = told
        running = begin(runner.run(inputs), f"{self.node_id}-{pipeline_name}")
        self._pipelines.add(running)
        running.add_done_callback(self._pipelines.discard)
        try:
            return await running
        except asyncio.CancelledError as cancelled:
            if self._running or ends_us(cancelled):
                raise
            raise RuntimeError(
                f"Pipeline {pipeline_name!r} was under way when node {self.node_id!r} was shut down. "
                "Start the node, and run it again."
            ) from None

    async def handle_incoming_message(self, from_node_id: str, message_type: str, payload: Any) -> None:
        """Hand a message to whoever waits for its type, then to the handler of its type.

        Raises
        ------
        asyncio.QueueFull
            If nobody takes messages of this type, and as many as may wait do so.
        """
        handler = self._message_handlers.get(message_type)
        try:
            self.scheduler.deliver_message(message_type, payload)
        except asyncio.QueueFull:
            if handler is None:
                raise
        if handler is not None:
            answer = handler(from_node_id, payload)
            if inspect.isawaitable(answer):
                await answer

    def register_message_handler(self, message_type: str, handler: Handler) -> None:
        """Call ``handler(from_node_id, payload)``, and await it, for messages of a type; the last one wins.

        Raises
        ------
        TypeError
            If it is no function.
        """
        if not callable(handler):
            raise TypeError(
                f"handler must be a function of sender and payload; got {type(handler).__name__}. Pass one."
            )
        self._message_handlers[message_type] = handler

    async def send_message(self, to_node_id: str, message_type: str, payload: Any) -> None:
        """Send to a neighbour.

        Raises
        ------
        RuntimeError
            Before `start`.
        ValueError
            If it is no neighbour.
        """
        self._require_started()
        await self.message_router.route_direct(to_node_id, message_type, payload, self.context)

    async def broadcast_message(self, message_type: str, payload: Any) -> None:
        """Send to every neighbour."""
        self._require_started()
        await self.message_router.route_broadcast(message_type, payload, self.context)

    async def multicast_message(self, to_node_ids: Iterable[str], message_type: str, payload: Any) -> None:
        """Send to several neighbours."""
        self._require_started()
        await self.message_router.route_multicast(to_node_ids, message_type, payload, self.context)

    def get_neighbors(self) -> list[int | str]:
        """Return the nodes that this one sends to."""
        return self.message_router.get_out_neighbors()

    def get_in_neighbors(self) -> list[int | str]:
        """Return the nodes that send to this one."""
        return self.message_router.get_in_neighbors()

    async def start_autonomous_task(
        self, coro: Coroutine[Any, Any, Any], name: str = "autonomous_task"
    ) -> asyncio.Task[Any]:
        """Run a coroutine beside the node until it ends or the node shuts down.

        Raises
        ------
        ValueError
            If a task of this name runs already.
        TypeError
            If it is no coroutine.
        """
        if not inspect.iscoroutine(coro):
            raise TypeError(
                f"A task needs a coroutine; got {type(coro).__name__}. Call the function: task(), not task."
            )
        running = self._tasks.get(name)
        if running is not None and not running.done():
            coro.close()
            raise ValueError(f"A task needs a name of its own; {name!r} runs already. Choose another.")
        task = self._tasks[name] = begin(coro, f"{self.node_id}-{name}")
        task.add_done_callback(partial(self._forget, name))
        return task

    def _forget(self, name: str, task: asyncio.Task[Any]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]

    def _one_at_a_time(self) -> asyncio.Lock:
        """Return the lock of starts and stops; each event loop has its own, as locks cannot change it."""
        loop = asyncio.get_running_loop()
        if self._turn[0] is not loop:
            self._turn = loop, asyncio.Lock()
        return self._turn[1]

    async def _stop(self) -> None:
        async with self._one_at_a_time():
            await self._close()

    async def _close(self) -> None:
        self._running = False
        await end([*self._tasks.values(), *self._pipelines, *([self._listening] if self._listening else [])])
        self._tasks.clear()
        self._listening = None
        if self._is_open:
            try:
                await self.context.shutdown()
            finally:
                await self.application.shutdown()
            self._is_open = False

    async def _listen(self) -> None:
        async for message in self.context.receive_messages():
            sender = kind = None
            with Recorder() as record:
                sender, kind = message["from"], message["type"]
                await self.handle_incoming_message(sender, kind, message["payload"])
            if record.error is not None:
                if ends_us(record.error):
                    raise record.error
                logger.error(
                    "Node %s failed on a %r of %s", self.node_id, kind, sender, exc_info=record.error
                )
            if self._listening is not asyncio.current_task():  # it has stopped, or started anew, meanwhile
                return

    def _deafened(self, listening: asyncio.Task[None]) -> None:
        if not listening.cancelled() and (error := listening.exception()) is not None:
            logger.error("Node %s takes no more messages", self.node_id, exc_info=error)

    def _require_started(self) -> None:
        if not self._running:
            raise RuntimeError(f"Node {self.node_id!r} is not started. Await start() first.")


def _nothing() -> ComputationGraph:
    return make_single_operator_graph(
        node_name="nothing", operator=CallableOp(lambda: None, input_mapping={}), input_keys=()
    )
