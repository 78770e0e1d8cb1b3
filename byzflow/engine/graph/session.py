"""Run graphs one after another and compute again only what has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import torch
from dask.base import tokenize

from byzflow.engine.actor.vec import bytes_of
from byzflow.engine.graph.graph import ComputationGraph, GraphInput, GraphNode, MessageSource, graph_input
from byzflow.engine.graph.scheduler import NodeScheduler
from byzflow.operators.base import Operator, Pool
from byzflow.operators.checks import mapping

__all__ = ("ExecutionFuture", "ExecutionSession")


class ExecutionSession:
    """Keep the value of every node, and use it again where the operator and all it read are the same.

    Inputs are compared by content, operators that are frozen dataclasses by their fields, others by identity.
    With a cache no chain is fused, since every value in between is kept.

    Parameters
    ----------
    pool : ActorPool, optional
        Where subtasks run.
    cache_intermediate : bool, default True
        Whether to keep anything.
    metadata : mapping, optional
        Handed to every operator.

    Examples
    --------
    >>> from byzflow.engine.graph.ops import CallableOp, make_single_operator_graph
    >>> op = CallableOp(lambda x: x + 1, input_mapping={"x": "x"})
    >>> graph = make_single_operator_graph(node_name="next", operator=op, input_keys=["x"])
    >>> async def twice():
    ...     async with ExecutionSession() as session:
    ...         return [await session.execute(graph, {"x": x}) for x in (1, 2)]
    >>> asyncio.run(twice())
    [{'next': 2}, {'next': 3}]
    """

    def __init__(
        self,
        pool: Pool | None = None,
        cache_intermediate: bool = True,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.pool = pool
        self.cache_intermediate = cache_intermediate
        self.metadata = mapping("metadata", metadata)
        self._result_cache: dict[str, Any] = {}
        self._tokens: dict[str, str] = {}
        self._known: list[Operator] = []

    async def __aenter__(self) -> Self:
        """Return the session."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget all values."""
        self.clear_cache()

    async def execute(self, graph: ComputationGraph, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs of a graph, computing only the nodes whose values are not known."""
        if not self.cache_intermediate:
            return await NodeScheduler(graph, pool=self.pool, metadata=self.metadata).run(inputs)
        missing = graph.required_inputs.difference(inputs)
        tokens = {} if missing else self._fingerprints(graph, inputs)
        known = {name for name, token in tokens.items() if self._tokens.get(name) == token}
        values = {name: self._result_cache[name] for name in known}
        if len(known) < len(graph):
            values.update(await self._compute(graph, inputs, values))
            self._result_cache.update(values)
            self._tokens.update(tokens)
        return {name: values[name] for name in graph.outputs}

    def execute_async(self, graph: ComputationGraph, inputs: Mapping[str, Any]) -> ExecutionFuture:
        """Start `execute` in the running event loop."""
        return ExecutionFuture(asyncio.ensure_future(self.execute(graph, inputs)), graph.outputs)

    def clear_cache(self) -> None:
        """Forget all values."""
        self._result_cache.clear()
        self._tokens.clear()
        self._known.clear()

    def is_cached(self, key: str) -> bool:
        """Whether the value of node `key` is kept."""
        return key in self._result_cache

    def get_cached(self, key: str) -> Any:
        """Return the kept value of node `key`.

        Raises
        ------
        KeyError
            If there is none.
        """
        if key not in self._result_cache:
            raise KeyError(
                f"No value is kept for node {key!r}; there is {sorted(self._result_cache)}. "
                "Execute its graph."
            )
        return self._result_cache[key]

    async def _compute(
        self, graph: ComputationGraph, inputs: Mapping[str, Any], known: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Run the nodes that are not known, with those that are as inputs."""
        stands = {name: f"known:{name}" for name in known}
        nodes = [
            replace(node, inputs={key: _stand_in(source, stands) for key, source in node.inputs.items()})
            for node in graph.nodes_in_order()
            if node.name not in known
        ]
        rest = ComputationGraph(nodes, outputs=[node.name for node in nodes])
        given = {**inputs, **{stands[name]: value for name, value in known.items()}}
        return await NodeScheduler(rest, pool=self.pool, metadata=self.metadata).run(given)

    def _fingerprints(self, graph: ComputationGraph, inputs: Mapping[str, Any]) -> dict[str, str]:
        """Return for each node a token of its operator and of all that it reads, directly or not."""
        contents = {name: _content(inputs[name]) for name in graph.required_inputs}
        tokens: dict[str, str] = {}
        for node in graph.nodes_in_order():
            read = {
                argument: tokens[source]
                if isinstance(source, str)
                else contents[source.name]
                if isinstance(source, GraphInput)
                else uuid4().hex
                for argument, source in node.inputs.items()
            }
            tokens[node.name] = tokenize(self._identity(node), sorted(read.items()))
        return tokens

    def _identity(self, node: GraphNode) -> str:
        op = node.op
        params = getattr(type(op), "__dataclass_params__", None)
        if params is not None and params.frozen:
            return str(tokenize(type(op).__qualname__, op))
        if not any(op is known for known in self._known):
            self._known.append(op)  # kept alive, so that its id stays its own
        return f"{type(op).__qualname__}-{id(op)}"


class ExecutionFuture(Awaitable[dict[str, Any]]):
    """The outputs of a graph that is being run.

    Parameters
    ----------
    task : asyncio.Future
        Will hold the outputs.
    output_keys : sequence of str
        Their names.
    """

    def __init__(self, task: asyncio.Future[dict[str, Any]], output_keys: Sequence[str]) -> None:
        self._task = task
        self.output_keys = tuple(output_keys)

    def __await__(self) -> Generator[Any, None, dict[str, Any]]:
        """Wait for the outputs."""
        return self._task.__await__()

    async def wait(self) -> dict[str, Any]:
        """Return the outputs when they are there."""
        return await self._task

    def done(self) -> bool:
        """Whether the run has ended."""
        return self._task.done()

    def cancel(self) -> bool:
        """Ask the run to end; False if it has."""
        return self._task.cancel()

    def cancelled(self) -> bool:
        """Whether the run was cancelled."""
        return self._task.cancelled()

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the outputs, waiting for them where no event loop runs.

        Raises
        ------
        RuntimeError
            If called inside a running event loop.
        TimeoutError
            If they are not there after `timeout` seconds.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("Cannot call result() inside a running event loop. Await the future instead.")
        if self._task.done():
            return self._task.result()
        loop = self._task.get_loop()
        if loop.is_running():
            return asyncio.run_coroutine_threadsafe(asyncio.wait_for(self.wait(), timeout), loop).result()
        return loop.run_until_complete(asyncio.wait_for(self.wait(), timeout))


def _stand_in(source: str | GraphInput | MessageSource, stands: Mapping[str, str]) -> Any:
    return graph_input(stands[source]) if isinstance(source, str) and source in stands else source


def _content(value: Any) -> str:
    """Return a token of a value's content; an unknown kind of object never equals another."""
    if isinstance(value, torch.Tensor):
        plain = bytes_of(value.detach().cpu().contiguous())
        return str(tokenize("torch", str(value.dtype), tuple(value.shape), plain.numpy()))
    if isinstance(value, (list, tuple)):
        return str(tokenize(type(value).__name__, [_content(part) for part in value]))
    if isinstance(value, dict):
        return str(tokenize([(key, _content(part)) for key, part in value.items()]))
    return str(tokenize(value))
