"""What a node can compute: named graphs ("pipelines") that share one pool."""

from __future__ import annotations

from collections.abc import KeysView, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Self

from byzflow.engine.graph.graph import ComputationGraph
from byzflow.engine.graph.ops import make_single_operator_graph
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.engine.graph.scheduler import NodeScheduler
from byzflow.engine.node.sync import run_sync
from byzflow.exceptions import suggest
from byzflow.operators.base import Operator
from byzflow.operators.checks import acts, mapping

__all__ = ("ByzantineNodeApplication", "HonestNodeApplication", "NodeApplication", "NodePipeline")


@dataclass(frozen=True)
class NodePipeline:
    """A graph bound to a node, with what its operators are told."""

    graph: ComputationGraph
    metadata: Mapping[str, Any] | None = None


class NodeApplication:
    """Pipelines by name, and the pool they run on.

    Parameters
    ----------
    name : str
        Name of the node.
    actor_pool : ActorPool or sequence of ActorPoolConfig
        The pool, or how to make one; it starts with the first work it gets.
    metadata : mapping, optional
        For every operator; a pipeline's and a call's metadata come on top.

    Examples
    --------
    >>> from byzflow.engine.graph.ops import CallableOp, make_single_operator_graph
    >>> app = NodeApplication(name="a", actor_pool=[ActorPoolConfig("thread")])
    >>> op = CallableOp(lambda x: 2 * x, input_mapping={"x": "x"})
    >>> graph = make_single_operator_graph(node_name="y", operator=op, input_keys=["x"])
    >>> app.register_pipeline("double", graph)
    >>> app.run_pipeline_sync("double", {"x": 21})
    {'y': 42}
    """

    def __init__(
        self,
        *,
        name: str,
        actor_pool: ActorPool | Sequence[ActorPoolConfig],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        given: Any = actor_pool
        self._pool: ActorPool = given if hasattr(given, "run_subtask") else ActorPool(given)
        self._metadata = mapping("metadata", metadata)
        self._pipelines: dict[str, NodePipeline] = {}

    @property
    def pool(self) -> ActorPool:
        """The pool."""
        return self._pool

    def register_pipeline(
        self, name: str, graph: ComputationGraph, *, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Add a pipeline.

        Raises
        ------
        ValueError
            If the name is taken.
        TypeError
            If `graph` is none.
        """
        if not isinstance(graph, ComputationGraph):
            raise TypeError(
                f"graph must be a ComputationGraph; got {type(graph).__name__}. Make one, as with "
                "make_single_operator_graph()."
            )
        if name in self._pipelines:
            raise ValueError(f"A pipeline needs a name of its own; {name!r} is taken. Choose another.")
        self._pipelines[name] = NodePipeline(graph, metadata)

    def register_operator(self, name: str, operator: Operator, input_keys: Sequence[str]) -> None:
        """Add a pipeline of one operator, whose output has the pipeline's name."""
        acts("operator", operator, "run", "Pass an Operator: a rule, an attack, or a CallableOp.")
        graph = make_single_operator_graph(node_name=name, operator=operator, input_keys=input_keys)
        self.register_pipeline(name, graph)

    def has_pipeline(self, name: str) -> bool:
        """Whether there is a pipeline of this name."""
        return name in self._pipelines

    def list_pipelines(self) -> KeysView[str]:
        """Return the names, as a view that follows changes."""
        return self._pipelines.keys()

    def pipeline(self, name: str) -> NodePipeline:
        """Return a pipeline.

        Raises
        ------
        KeyError
            If there is none of this name.
        """
        if name not in self._pipelines:
            known = sorted(self._pipelines)
            raise KeyError(
                f"Unknown pipeline {name!r}; {self.name} has {known}.{suggest(name, known)} "
                "Register it with register_pipeline()."
            )
        return self._pipelines[name]

    def pipeline_metadata(self, name: str, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what the operators of a pipeline are told; later sources win."""
        own = {"node": self.name, "pipeline": name}
        return {**own, **self._metadata, **(self.pipeline(name).metadata or {}), **(metadata or {})}

    async def run_pipeline(
        self, name: str, inputs: Mapping[str, Any], *, metadata: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run a pipeline and return its outputs by name.

        Raises
        ------
        KeyError
            If there is none of this name.
        """
        told = self.pipeline_metadata(name, metadata)
        return await NodeScheduler(self.pipeline(name).graph, pool=self._pool, metadata=told).run(inputs)

    def run_pipeline_sync(
        self, name: str, inputs: Mapping[str, Any], *, metadata: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run a pipeline from plain code; works inside a running loop too."""
        return run_sync(self.run_pipeline(name, inputs, metadata=metadata))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def shutdown(self) -> None:
        """Shut the pool down, also one that was passed in."""
        await self._pool.shutdown()

    async def _first(self, name: str, inputs: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> Any:
        return next(iter((await self.run_pipeline(name, inputs, metadata=metadata)).values()))


class HonestNodeApplication(NodeApplication):
    """An application with the pipelines of an honest node; they are registered like any other."""

    AGGREGATION_PIPELINE: ClassVar[str] = "aggregate"
    GRADIENT_PIPELINE: ClassVar[str] = "honest_gradient"

    async def aggregate(self, *, gradients: Sequence[Any], metadata: Mapping[str, Any] | None = None) -> Any:
        """Run the aggregation pipeline on the input ``gradients`` and return its first output."""
        return await self._first(self.AGGREGATION_PIPELINE, {"gradients": gradients}, metadata)

    def aggregate_sync(self, *, gradients: Sequence[Any], metadata: Mapping[str, Any] | None = None) -> Any:
        """Run the aggregation pipeline from plain code; works inside a running loop too."""
        return run_sync(self.aggregate(gradients=gradients, metadata=metadata))

    async def honest_gradient(
        self, inputs: Mapping[str, Any], *, metadata: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the gradient pipeline and return its first output."""
        return await self._first(self.GRADIENT_PIPELINE, inputs, metadata)

    def honest_gradient_sync(
        self, inputs: Mapping[str, Any], *, metadata: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the gradient pipeline from plain code; works inside a running loop too."""
        return run_sync(self.honest_gradient(inputs, metadata=metadata))


class ByzantineNodeApplication(NodeApplication):
    """An application with the pipeline of a Byzantine node; it is registered like any other."""

    ATTACK_PIPELINE: ClassVar[str] = "attack"

    async def run_attack(
        self, *, inputs: Mapping[str, Any], metadata: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the attack pipeline and return its first output."""
        return await self._first(self.ATTACK_PIPELINE, inputs, metadata)

    def run_attack_sync(self, *, inputs: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> Any:
        """Run the attack pipeline from plain code; works inside a running loop too."""
        return run_sync(self.run_attack(inputs=inputs, metadata=metadata))
