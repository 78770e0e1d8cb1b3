"""Schedulers: a graph, where it may run, and what its operators are told. One run is in `steps`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from byzflow.engine.graph.fuse import fuse
from byzflow.engine.graph.graph import ComputationGraph, GraphInput, GraphNode, MessageSource
from byzflow.engine.graph.inputs import open_cluster, started
from byzflow.engine.graph.mailbox import Mailbox, MailboxStatistics
from byzflow.engine.graph.steps import Run
from byzflow.operators.base import OpContext, Operator, Pool
from byzflow.operators.checks import acts, mapping

__all__ = ("MessageAwareNodeScheduler", "MessageSource", "NodeScheduler")

_NAMED = 'Pass {"gradients": vectors}, or whatever the graph reads.'


class NodeScheduler:
    """Evaluate a graph, in place, on a pool, or on a Dask cluster.

    Nodes start as soon as what they read is there, so independent nodes overlap wherever they wait for
    something: a pool, a cluster, a coroutine. A plain ``compute`` runs on the caller's event loop, on the
    caller's object. Results do not depend on where a node ran.

    Parameters
    ----------
    graph : ComputationGraph
        What to evaluate.
    pool : ActorPool, optional
        Where subtasks run. Any object with ``size`` and ``run_subtask`` will do.
    metadata : mapping, optional
        Handed to every operator in its context; a pool adds ``pool_size`` and ``worker_affinities``.

    Attributes
    ----------
    plans : dict of str to Any, or None
        If it is a dict, a run notes there by which plan each output of a rule was made.

    Examples
    --------
    >>> from byzflow.engine.graph.ops import CallableOp, make_single_operator_graph
    >>> op = CallableOp(lambda x: x + 1, input_mapping={"x": "x"})
    >>> graph = make_single_operator_graph(node_name="next", operator=op, input_keys=["x"])
    >>> import asyncio
    >>> asyncio.run(NodeScheduler(graph).run({"x": 1}))
    {'next': 2}
    """

    def __init__(
        self,
        graph: ComputationGraph,
        *,
        pool: Pool | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if pool is not None:
            acts("pool", pool, "run_subtask", "Pass an ActorPool, or None.")
        self.graph = graph
        self.pool = pool
        self.metadata = mapping("metadata", metadata)
        self.plans: dict[str, Any] | None = None

    async def run(self, inputs: Mapping[str, Any], *, compute: bool = True) -> dict[str, Any]:
        """Evaluate the graph once.

        Parameters
        ----------
        inputs : mapping of str to Any
            A value for each of ``graph.required_inputs``; others are ignored. A value may also be a Dask
            future, a list with futures of single vectors, a `Delayed`, or a dask array of shape (n, d).
        compute : bool, default True
            Return values; otherwise a `distributed.Future` for each output, of the value as it is (bfloat16
            and device tensors: of a `byzflow.engine.actor.vec.Vec`).

        Returns
        -------
        dict of str to Any
            The value of each of ``graph.outputs``.

        Raises
        ------
        ValueError
            If an input is missing, or futures are asked for and there is no cluster.
        """
        inputs = mapping("inputs", inputs, _NAMED)
        acts("graph", self.graph, "nodes_in_order", "Make a ComputationGraph of it.")
        for node in self.graph.nodes_in_order():
            acts(f"The operator of node {node.name!r}", node.op, "run", "Wrap a function in CallableOp.")
        missing = sorted(self.graph.required_inputs.difference(inputs))
        if missing:
            raise ValueError(f"Missing graph inputs: {missing}; got {sorted(inputs)}. Pass a value for each.")
        if not compute or any(_uses_pool(node.op) for node in self.graph.nodes_in_order()):
            await self._start_pool()
        async with open_cluster(self.pool, inputs, needed=not compute) as cluster:
            if cluster is None and not compute:
                raise ValueError(
                    "compute=False needs a cluster to hold the results: a pool of Dask workers, inputs that "
                    "lie on one, or a current client; got none. Give a pool, or leave compute=True."
                )
            cache = {name: await started(value, cluster) for name, value in inputs.items()}
            return await Run(self, fuse(self.graph), cluster, compute, cache).all()

    async def _start_pool(self) -> None:
        start = getattr(self.pool, "start", None)
        if start is not None:
            await start()

    async def _execute(self, node: GraphNode, inputs: Mapping[str, Any], pool: Pool | None) -> Any:
        """Run one operator on its resolved inputs."""
        return await node.op.run(inputs, context=self._context(node), pool=pool)

    def _resolve_inputs(self, node: GraphNode, cache: Mapping[str, Any]) -> Any:
        return {argument: self._resolve(node, source, cache) for argument, source in node.inputs.items()}

    def _resolve(
        self, node: GraphNode, source: str | GraphInput | MessageSource, cache: Mapping[str, Any]
    ) -> Any:
        if isinstance(source, MessageSource):
            raise TypeError(
                f"Node {node.name!r} waits for messages of type {source.message_type!r}, which NodeScheduler "
                f"does not take. Run the graph with MessageAwareNodeScheduler."
            )
        name = source.name if isinstance(source, GraphInput) else source
        if name not in cache:
            raise KeyError(
                f"Node {node.name!r} reads {name!r}, which has not been computed; there is {sorted(cache)}."
            )
        return cache[name]

    def _context(self, node: GraphNode) -> OpContext:
        metadata = dict(self.metadata)
        if self.pool is not None:
            metadata.setdefault("pool_size", self.pool.size)
            affinities = getattr(self.pool, "worker_affinities", tuple)
            metadata.setdefault("worker_affinities", tuple(affinities()))
        return OpContext(node.name, metadata, self.plans)


class MessageAwareNodeScheduler(NodeScheduler):
    """A scheduler whose nodes may wait for messages from outside the graph.

    A message wakes the node that has waited longest for its type, or is cached for a later one: never
    both. Messages of one type are taken in the order of delivery.

    Parameters
    ----------
    graph, pool, metadata
        As for :class:`NodeScheduler`.
    capacity : int, default 1024
        How many messages of one type may wait to be taken [messages].

    Examples
    --------
    >>> from byzflow.engine.graph.ops import CallableOp
    >>> double = CallableOp(lambda v: 2 * v, input_mapping={"v": "v"})
    >>> node = GraphNode("double", double, {"v": GraphInput.from_message("value", field="x")})
    >>> scheduler = MessageAwareNodeScheduler(ComputationGraph([node]))
    >>> scheduler.deliver_message("value", {"x": 21})
    >>> import asyncio
    >>> asyncio.run(scheduler.run({}))
    {'double': 42}
    """

    def __init__(
        self,
        graph: ComputationGraph,
        *,
        pool: Pool | None = None,
        metadata: Mapping[str, Any] | None = None,
        capacity: int = 1024,
    ) -> None:
        super().__init__(graph, pool=pool, metadata=metadata)
        self._mailbox = Mailbox(capacity)

    def deliver_message(self, message_type: str, payload: Any) -> None:
        """Wake one waiter, or cache the message. May be called from any thread.

        Raises
        ------
        asyncio.QueueFull
            If `capacity` messages of this type already wait to be taken. The message is not kept.
        """
        self._mailbox.put(message_type, payload)

    async def wait_for_message(self, message_type: str, *, timeout: float | None = None) -> Any:
        """Take the oldest message of a type, waiting for one if there is none.

        Raises
        ------
        TimeoutError
            If none came within `timeout` seconds.
        """
        return await self._mailbox.get(message_type, timeout=timeout)

    def statistics(self) -> MailboxStatistics:
        """Count the messages that are cached and the nodes that wait."""
        return self._mailbox.statistics()

    async def run(self, inputs: Mapping[str, Any], *, compute: bool = True) -> dict[str, Any]:
        """Evaluate the graph once; an input value that is a MessageSource is waited for first."""
        given = mapping("inputs", inputs, _NAMED)
        values = {
            name: await self._receive(value) if isinstance(value, MessageSource) else value
            for name, value in given.items()
        }
        return await super().run(values, compute=compute)

    async def _resolve_inputs(self, node: GraphNode, cache: Mapping[str, Any]) -> dict[str, Any]:
        return {
            argument: await self._receive(source)
            if isinstance(source, MessageSource)
            else self._resolve(node, source, cache)
            for argument, source in node.inputs.items()
        }

    def _context(self, node: GraphNode) -> OpContext:
        context = super()._context(node)
        return OpContext(context.node_name, {**(context.metadata or {}), "scheduler": self}, context.plans)

    async def _receive(self, source: MessageSource) -> Any:
        payload = await self.wait_for_message(source.message_type, timeout=source.timeout)
        if source.field is None:
            return payload
        if not isinstance(payload, Mapping):
            raise TypeError(
                f"A message of type {source.message_type!r} must be a mapping with {source.field!r}; got "
                f"{type(payload).__name__}. Send a dict, or read the whole payload."
            )
        if source.field not in payload:
            raise KeyError(
                f"A message of type {source.message_type!r} must hold {source.field!r}; got "
                f"{sorted(payload)}. Send that key."
            )
        return payload[source.field]


def _uses_pool(op: Any) -> bool:
    return (
        getattr(op, "supports_subtasks", False)
        or getattr(op, "supports_barriered_subtasks", False)
        or getattr(type(op), "run", None) is not Operator.run
    )
