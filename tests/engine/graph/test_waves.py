"""A graph is submitted in parts; in none of them do many last tasks wait for many first ones."""

from __future__ import annotations

import pytest
from dask.task_spec import TaskRef

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.engine.graph.compile import compile_graph
from byzflow.engine.graph.graph import ComputationGraph, GraphNode, graph_input
from byzflow.engine.graph.layers import Pieces, Sharded, Whole
from byzflow.engine.graph.waves import WIDE, waves
from byzflow.pre_aggregators import NearestNeighborMixing

SHARDS = 2 * WIDE


def chain(k=SHARDS, outputs=None, source=None, **options):
    """Two rules that measure, and one that does not, on k shards."""
    nodes = [
        GraphNode("mix", NearestNeighborMixing(1), {"vectors": graph_input("g")}),
        GraphNode("krum", MultiKrum(1, 2), {"gradients": "mix"}),
        GraphNode("median", CoordinateWiseMedian(), {"gradients": "mix"}),
    ]
    source = source or Sharded(tuple(TaskRef(("rows", i)) for i in range(k)))
    graph = ComputationGraph(nodes, outputs=outputs or ["krum", "median"])
    compiled = compile_graph(graph, {"g": source}, token="00", workers=["a", "b"], **options)
    return compiled, waves(compiled.graph, compiled.keys)


def reads(wave):
    return {key: task.dependencies for key, task in wave.graph.to_dict().items()}


def edges(wave):
    return sum(map(len, reads(wave).values()))


def waiting_pairs(wave):
    """Count the pairs of a key that waits for nothing in its wave and a last task that waits for it."""
    tasks = reads(wave)
    roots = {}

    def above(key):
        if key not in roots:
            roots[key] = frozenset().union(*map(above, tasks[key])) if tasks.get(key) else frozenset({key})
        return roots[key]

    read = {key for below in tasks.values() for key in below}
    return sum(len(above(key)) for key in tasks if key not in read)


def test_tasks_and_edges_grow_with_the_shards_and_no_faster():
    small, large = (chain(k)[1] for k in (SHARDS, 8 * SHARDS))
    for count in (lambda wave: len(wave.graph.to_dict()), edges):
        assert sum(map(count, large)) <= 8 * sum(map(count, small))
    # measure and apply for each rule that measures, apply for the other; the tree of sums takes a seventh
    assert sum(len(wave.graph.to_dict()) for wave in large) <= 8 * SHARDS * (5 + 2 / 7) + 20


def test_few_last_tasks_wait_for_many_first_ones():
    for k in (SHARDS, 8 * SHARDS):
        compiled, parts = chain(k)
        assert all(waiting_pairs(part) <= 5 * k for part in parts)
        # in one graph nothing helps: every answer waits for every shard
        (whole,) = waves_of_one(compiled)
        assert waiting_pairs(whole) >= 2 * k * k


def waves_of_one(compiled):
    """Return the whole graph as one wave."""
    part = waves(compiled.graph, compiled.keys)[0]
    return [type(part)(compiled.graph, tuple(compiled.keys))]


def test_every_task_is_in_one_wave_and_reads_only_its_own_and_earlier_ones():
    compiled, parts = chain()
    assert len(parts) == 3
    known = {("rows", i) for i in range(SHARDS)}
    held = set()
    for part in parts:
        tasks = reads(part)
        assert not known & set(tasks)
        for read in tasks.values():
            assert all(key in tasks or key in held or key[0] == "rows" for key in read)
        known |= set(tasks)
        held |= set(part.keys)
    assert known - {("rows", i) for i in range(SHARDS)} == set(compiled.graph.to_dict())


def test_every_output_is_asked_for_once():
    compiled, parts = chain(outputs=["mix", "krum", "median"])
    asked = [key for part in parts for key in part.keys]
    assert len(asked) == len(set(asked))
    assert set(compiled.keys) <= set(asked)


def test_a_wave_asks_for_what_later_ones_read_and_for_nothing_else():
    _, parts = chain()
    assert [len(part.keys) for part in parts] == [1, 2 * SHARDS + 1, SHARDS]
    assert parts[0].keys == (("pre-agg-nnm-solve-000", 0),)


@pytest.mark.parametrize(
    "options",
    [
        {"k": WIDE},
        {"source": Whole(TaskRef("x"))},
        {"source": Pieces((TaskRef("x"), TaskRef("y")), k=2)},
        {"k": 3, "gather": True},
    ],
)
def test_a_graph_of_few_shards_is_one_wave(options):
    compiled, (part,) = chain(**options)
    assert part.graph.to_dict() == compiled.graph.to_dict()
    assert set(part.keys) == set(compiled.keys)


def test_pins_stay():
    _, parts = chain()
    last = parts[-1].graph.layers["multi-krum-apply-001"]
    assert last.annotations["workers"](("multi-krum-apply-001", 3)) == ["b"]
