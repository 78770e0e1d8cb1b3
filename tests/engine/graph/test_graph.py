"""A graph is checked when it is built, and orders its nodes the same way every time."""

from __future__ import annotations

import dataclasses

import pytest

from byzflow.engine.graph.graph import ComputationGraph, GraphInput, GraphNode, MessageSource, graph_input


def node(name, **inputs):
    return GraphNode(name, op=None, inputs=inputs)


def names(graph):
    return [node.name for node in graph.nodes_in_order()]


def test_a_chain_runs_in_chain_order_however_it_was_declared():
    graph = ComputationGraph([node("c", x="b"), node("b", x="a"), node("a", x=graph_input("v"))])
    assert names(graph) == ["a", "b", "c"]
    assert graph.outputs == ["c"]


def test_independent_nodes_keep_the_order_of_declaration():
    assert names(ComputationGraph([node("b"), node("c"), node("a")])) == ["b", "c", "a"]


def test_a_valid_declaration_is_the_order():
    graph = ComputationGraph([node("a"), node("b", x="a"), node("c"), node("d", x="b", y="c")])
    assert names(graph) == ["a", "b", "c", "d"]
    assert names(ComputationGraph([node("a"), node("b", x="a"), node("c")])) == ["a", "b", "c"]


def test_required_inputs_are_graph_inputs_without_messages():
    graph = ComputationGraph(
        [node("a", x=graph_input("v"), y=GraphInput.from_message("m"), z=GraphInput("w"))]
    )
    assert graph.required_inputs == frozenset({"v", "w"})


def test_a_parent_read_twice_counts_once():
    assert names(ComputationGraph([node("b", x="a", y="a"), node("a")])) == ["a", "b"]


@pytest.mark.parametrize(
    ("nodes", "outputs", "text"),
    [
        ([], None, "requires at least one node"),
        ([node("a"), node("a")], None, "Duplicate graph node"),
        ([node("a")], ["b"], "Unknown output node"),
        ([node("a", x="b"), node("b", x="a")], None, "contains a cycle"),
        ([node("a", x="a")], None, "contains a cycle"),
        ([node("a", x="nowhere")], None, "contains a cycle"),
    ],
)
def test_a_graph_that_cannot_run_is_refused(nodes, outputs, text):
    with pytest.raises(ValueError, match=text):
        ComputationGraph(nodes, outputs=outputs)


def test_a_missing_parent_is_named():
    with pytest.raises(ValueError, match="'nowhere'"):
        ComputationGraph([node("a", x="nowhere"), node("b", x="a")])


def test_descriptions_are_frozen():
    for item in (graph_input("v"), node("a"), MessageSource("m")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            item.name = "other"


def test_from_message_keeps_its_options():
    assert GraphInput.from_message("m", field="x", timeout=2.0) == MessageSource("m", "x", 2.0)
