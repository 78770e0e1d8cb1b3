"""Operators made of a plain function, and the graph of a single operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from byzflow.engine.graph.graph import ComputationGraph, GraphNode, graph_input
from byzflow.operators.base import OpContext, Operator, SubTask
from byzflow.operators.checks import mapping

__all__ = ("CallableOp", "RemoteCallableOp", "make_single_operator_graph")


class CallableOp(Operator):
    """Call a function in the caller's process, on the caller's objects.

    Parameters
    ----------
    fn : callable
        Called with keyword arguments. May be a coroutine function.
    input_mapping : mapping of str to str
        Parameter name of `fn` to key of the node's inputs.

    Raises
    ------
    KeyError
        At run time, if an input is missing.

    Examples
    --------
    >>> minus = CallableOp(lambda a, b: a - b, input_mapping={"a": "x", "b": "y"})
    >>> minus.compute({"x": 3, "y": 1}, context=OpContext("minus"))
    2
    """

    name = "callable"

    def __init__(self, fn: Callable[..., Any], *, input_mapping: Mapping[str, str]) -> None:
        if not callable(fn):
            raise TypeError(
                f"fn must be callable; got {type(fn).__name__}. Pass a function of keyword arguments."
            )
        self.fn = fn
        self.input_mapping = mapping("input_mapping", input_mapping, 'Pass {"parameter": "input"}.')

    def arguments(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of `fn`."""
        missing = sorted(key for key in self.input_mapping.values() if key not in inputs)
        if missing:
            raise KeyError(
                f"{self.name} needs the inputs {missing}; got {sorted(inputs)}. Wire them in the graph node."
            )
        return {parameter: inputs[key] for parameter, key in self.input_mapping.items()}

    def compute(self, inputs: Mapping[str, Any], *, context: OpContext) -> Any:
        """Call `fn` in place."""
        return self.fn(**self.arguments(inputs))


class RemoteCallableOp(CallableOp):
    """Call a function as one subtask on the pool, or in place when there is no pool of two or more.

    Parameters
    ----------
    fn : callable
        Called with keyword arguments on some worker.
    input_mapping : mapping of str to str
        Parameter name of `fn` to key of the node's inputs.
    """

    name = "remote_callable"
    supports_subtasks = True

    def create_subtasks(self, inputs: Mapping[str, Any], *, context: OpContext) -> Iterable[SubTask]:
        """Return the one subtask."""
        return [SubTask(fn=self.fn, kwargs=self.arguments(inputs), name=self.name)]

    def reduce_subtasks(
        self, partials: Sequence[Any], inputs: Mapping[str, Any], *, context: OpContext
    ) -> Any:
        """Return what the one subtask returned."""
        return partials[0]


def make_single_operator_graph(
    *, node_name: str, operator: Operator, input_keys: Iterable[str]
) -> ComputationGraph:
    """Return a graph of one node whose inputs are graph inputs of the same names.

    Examples
    --------
    >>> op = CallableOp(max, input_mapping={})
    >>> make_single_operator_graph(node_name="top", operator=op, input_keys=["values"])
    ComputationGraph(top; outputs=['top'])
    """
    node = GraphNode(name=node_name, op=operator, inputs={key: graph_input(key) for key in input_keys})
    return ComputationGraph([node], outputs=[node_name])
