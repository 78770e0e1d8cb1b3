"""A computation graph: named nodes, their operators, what feeds them. Pure: nothing runs here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from byzflow.operators.checks import mapping, several

__all__ = ("ComputationGraph", "GraphInput", "GraphNode", "MessageSource", "graph_input")


@dataclass(frozen=True)
class MessageSource:
    """A node input that arrives as a message while the graph runs.

    Parameters
    ----------
    message_type : str
        Which messages are taken, one for each run.
    field : str, optional
        Take this key of a payload that is a mapping, instead of the whole payload.
    timeout : float, optional
        How long to wait [seconds]; None waits until the run is cancelled.
    """

    message_type: str
    field: str | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class GraphInput:
    """A value that the caller of ``run`` provides under `name`."""

    name: str

    @staticmethod
    def from_message(
        message_type: str, field: str | None = None, timeout: float | None = None
    ) -> MessageSource:
        """Return an input that waits for a message instead of being provided by the caller.

        Examples
        --------
        >>> GraphInput.from_message("gradient", field="vector")
        MessageSource(message_type='gradient', field='vector', timeout=None)
        """
        return MessageSource(message_type, field, timeout)


def graph_input(name: str) -> GraphInput:
    """Return a graph input called `name`.

    Examples
    --------
    >>> graph_input("gradients")
    GraphInput(name='gradients')
    """
    return GraphInput(name)


@dataclass(frozen=True)
class GraphNode:
    """One operator and where its arguments come from.

    Parameters
    ----------
    name : str
        Unique in its graph; other nodes refer to it.
    op : Operator
        What the node computes.
    inputs : mapping of str to str, GraphInput or MessageSource
        Argument name to the name of another node, a graph input, or a message.
    """

    name: str
    op: Any
    inputs: Mapping[str, str | GraphInput | MessageSource] = field(default_factory=dict)

    def __post_init__(self) -> None:
        hint = 'Pass {"gradients": graph_input("gradients")}, or the like.'
        for argument, source in mapping("inputs", self.inputs, hint).items():
            if not isinstance(source, str | GraphInput | MessageSource):
                raise TypeError(
                    f"inputs of {self.name!r} must be names of nodes, graph inputs or messages; got "
                    f"{type(source).__name__} for {argument!r}. Give values to run()."
                )

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the nodes this one reads, without repetition."""
        return tuple(dict.fromkeys(source for source in self.inputs.values() if isinstance(source, str)))


class ComputationGraph:
    """Nodes in topological order, and which of their values are wanted.

    Nodes that could run in either order keep the order of declaration.

    Parameters
    ----------
    nodes : sequence of GraphNode
        At least one; names are unique.
    outputs : sequence of str, optional
        Names of the nodes whose values ``run`` returns; default: the last node of the order.

    Attributes
    ----------
    outputs : list of str
    required_inputs : frozenset of str
        Graph inputs that some node reads. Messages are not among them.

    Raises
    ------
    ValueError
        If there is no node, a name is used twice, an output is unknown, or the nodes wait for each other.

    Examples
    --------
    >>> clip = GraphNode("clip", op=None, inputs={"vectors": graph_input("gradients")})
    >>> mean = GraphNode("mean", op=None, inputs={"gradients": "clip"})
    >>> graph = ComputationGraph([mean, clip])
    >>> [node.name for node in graph.nodes_in_order()], graph.outputs, sorted(graph.required_inputs)
    (['clip', 'mean'], ['mean'], ['gradients'])
    """

    def __init__(self, nodes: Sequence[GraphNode], *, outputs: Sequence[str] | None = None) -> None:
        self._nodes = _by_name(nodes)
        self._order = _topological(self._nodes)
        if outputs is None:
            outputs = self._order[-1:]
        for name in outputs:
            if name not in self._nodes:
                raise ValueError(
                    f"Unknown output node {name!r}; the graph has {sorted(self._nodes)}. Name one of these."
                )
        self.outputs: list[str] = list(outputs)
        self.required_inputs: frozenset[str] = frozenset(
            source.name
            for node in self._nodes.values()
            for source in node.inputs.values()
            if isinstance(source, GraphInput)
        )

    def nodes_in_order(self) -> Iterator[GraphNode]:
        """Yield every node after all the nodes it reads."""
        return (self._nodes[name] for name in self._order)

    def __getitem__(self, name: str) -> GraphNode:
        """Return the node called `name`."""
        return self._nodes[name]

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self._nodes)

    def __repr__(self) -> str:
        return f"ComputationGraph({' -> '.join(self._order)}; outputs={self.outputs})"


def _by_name(nodes: Sequence[GraphNode]) -> dict[str, GraphNode]:
    named: dict[str, GraphNode] = {}
    for node in several("nodes", nodes):
        if not isinstance(node, GraphNode):
            raise TypeError(f"nodes must be GraphNodes; got {type(node).__name__}. Wrap it in GraphNode.")
        if node.name in named:
            raise ValueError(
                f"Duplicate graph node {node.name!r}; names must be unique. Rename one of the two."
            )
        named[node.name] = node
    if not named:
        raise ValueError("A computation graph requires at least one node; got none. Add a GraphNode.")
    return named


def _topological(nodes: Mapping[str, GraphNode]) -> list[str]:
    """Order names so that parents come first, and by declaration otherwise."""
    names = list(nodes)
    waiting = {name: len(node.parents) for name, node in nodes.items()}
    children: dict[str, list[int]] = {}
    for index, node in enumerate(nodes.values()):
        for parent in node.parents:
            children.setdefault(parent, []).append(index)
    ready = [index for index, name in enumerate(names) if not waiting[name]]
    order: list[str] = []
    while ready:
        name = names[heappop(ready)]
        order.append(name)
        for child in children.get(name, ()):
            waiting[names[child]] -= 1
            if not waiting[names[child]]:
                heappush(ready, child)
    if len(order) < len(nodes):
        raise _unordered(nodes, set(nodes).difference(order))
    return order


def _unordered(nodes: Mapping[str, GraphNode], stuck: set[str]) -> ValueError:
    missing = sorted({parent for name in stuck for parent in nodes[name].parents if parent not in nodes})
    if missing:
        return ValueError(
            f"The computation graph contains a cycle or a gap: no node is called "
            f"{', '.join(map(repr, missing))}. Add it, or wrap the name in GraphInput."
        )
    return ValueError(
        f"The computation graph contains a cycle through {', '.join(map(repr, sorted(stuck)))}. "
        f"Let one of these nodes read something else."
    )
