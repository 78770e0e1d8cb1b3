"""From a graph of rules and where their rows lie to the layers of a Dask graph. Pure: nothing is submitted.

A rule on k column shards becomes one layer per phase::

    measure (k tasks, where the shards are) -> sum (a tree) -> solve (one) -> apply (k, where the shards are)

and, if the value is wanted in one piece on the cluster, gather (one). Rules that follow each other hand
their shards on. Rows that come in one piece run in one task, with the rules that follow in a chain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import List

from byzflow.engine.graph.graph import ComputationGraph, GraphInput, GraphNode
from byzflow.engine.graph.layers import Key, Layers, Pieces, Ref, Sharded, Source, Whole
from byzflow.engine.graph.shards import Link

__all__ = ("Compiled", "compile_graph")


@dataclass(frozen=True)
class Compiled:
    """What to submit, and which keys hold the outputs.

    Attributes
    ----------
    graph : HighLevelGraph
    outputs : mapping of str to tuple of Key
        For each output node its shards in order, or one key if the value is in one piece.
    plans : mapping of str to Key
        For output nodes in shards the plan that made them, if there is one and it is wanted.
    paired : frozenset of str
        Output nodes in one piece whose key holds the value and the plan that made it, as that is wanted.
    """

    graph: HighLevelGraph
    outputs: Mapping[str, tuple[Key, ...]]
    plans: Mapping[str, Key] = field(default_factory=dict)
    paired: frozenset[str] = frozenset()

    @property
    def keys(self) -> list[Key]:
        """All output keys."""
        return [*(key for keys in self.outputs.values() for key in keys), *self.plans.values()]


@dataclass(frozen=True)
class _Open:
    """Rules that will run in one task, with those that follow, on rows in one piece."""

    value: Ref
    links: tuple[Link, ...]


def compile_graph(
    graph: ComputationGraph,
    sources: Mapping[str, Source],
    *,
    token: str,
    workers: Sequence[str] = (),
    gather: bool = False,
    planned: bool = False,
) -> Compiled:
    """Compile a graph of row operators that have one input each.

    Parameters
    ----------
    graph : ComputationGraph
        Every operator is a `RowOperator`; every node reads one graph input or one other node.
    sources : mapping of str to Source
        Where the rows of each graph input lie.
    token : str
        Makes the keys of this run unique.
    workers : sequence of str
        Addresses; shard i is worked on by worker i modulo their number, if it is there.
    gather : bool, default False
        Put each output together on the cluster.
    planned : bool, default False
        Give the plans of the outputs, too. They are made anyway: no task is added.

    Examples
    --------
    >>> from dask.task_spec import TaskRef
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> from byzflow.engine.graph.ops import make_single_operator_graph
    >>> rule = CoordinateWiseMedian()
    >>> graph = make_single_operator_graph(node_name="median", operator=rule, input_keys=["gradients"])
    >>> compiled = compile_graph(graph, {"gradients": Sharded((TaskRef("x"), TaskRef("y")))}, token="0")
    >>> list(compiled.graph.layers), compiled.outputs
    (['coordinate-wise-median-apply-00'],
     {'median': (('coordinate-wise-median-apply-00', 0), ('coordinate-wise-median-apply-00', 1))})
    """
    layers = Layers(workers)
    nodes = list(graph.nodes_in_order())
    readers = Counter(parent for node in nodes for parent in node.parents)
    values: dict[str, Source | _Open] = {}
    outputs: dict[str, tuple[Key, ...]] = {}
    plans: dict[str, Key] = {}
    paired: set[str] = set()
    for index, node in enumerate(nodes):
        tag, is_output = f"{token}{index}", node.name in graph.outputs
        argument, source = _only_input(node)
        above = sources[source.name] if isinstance(source, GraphInput) else values[source]
        value = _follow(layers, node, argument, above, tag)
        if isinstance(value, _Open) and (is_output or readers[node.name] != 1):
            pairs = planned and is_output and not readers[node.name]
            value = layers.chained(value.links, value.value, tag, planned=pairs)
            paired.update({node.name} if pairs else ())
        values[node.name] = value
        if is_output and planned and isinstance(value, Sharded) and value.plan is not None:
            plans[node.name] = value.plan.key
        if is_output and isinstance(value, Sharded) and gather:
            value = layers.gathered(node.op, value, tag)
        if is_output:
            outputs[node.name] = _keys(value)
    return Compiled(layers.graph(), outputs, plans, frozenset(paired))


def _follow(
    layers: Layers, node: GraphNode, argument: str, above: Source | _Open, tag: str
) -> Source | _Open:
    """Return the value of a node, adding its phases unless it can wait for a task of its chain."""
    if isinstance(above, _Open):
        return _Open(above.value, (*above.links, (node.op, argument)))
    if isinstance(above, Pieces) and above.k == 1:
        above = Whole(List(*above.vectors))
    if isinstance(above, Whole) and above.k == 1:
        return _Open(above.value, ((node.op, argument),))
    return layers.phases(node.op, layers.sharded(node.op, argument, above, tag), tag)


def _only_input(node: GraphNode) -> tuple[str, str | GraphInput]:
    ((argument, source),) = node.inputs.items()
    if not isinstance(source, (str, GraphInput)):
        raise TypeError(
            f"Node {node.name!r} waits for a message; only values can be compiled. Receive it first."
        )
    return argument, source


def _keys(value: Source | _Open) -> tuple[Key, ...]:
    if isinstance(value, Sharded):
        return tuple(ref.key for ref in value.shards)
    assert isinstance(value, Whole)
    return (value.value.key,)
