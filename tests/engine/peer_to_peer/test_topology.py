"""Topologies: the graphs are what their names say, and what is not connected is said."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byzflow.engine.peer_to_peer.schedule import (
    TopologySchedule,
    epidemic,
    one_peer_exponential,
    random_pull,
)
from byzflow.engine.peer_to_peer.topology import Edge, Topology

NAMED = {
    "complete": Topology.complete(7),
    "ring": Topology.ring(7, 2),
    "torus": Topology.torus(3, 4),
    "erdos_renyi": Topology.erdos_renyi(9, 0.5, seed=1),
    "k_regular": Topology.k_regular(8, 3, seed=2),
    "star": Topology.star(6, center=2),
    "dumbbell": Topology.dumbbell(9, bridges=2),
}


def test_constructor_keeps_self_loops_and_repeated_edges_but_neighbors_do_not():
    topology = Topology(2, [(0, 0), (0, 1), Edge(0, 1)])
    assert topology.out == {0: [0, 1, 1], 1: []}
    assert topology.in_ == {0: [0], 1: [0, 0]}
    assert topology.out_neighbors(0) == (1,)
    assert topology.in_neighbors(0) == ()
    assert topology.edges() == (Edge(0, 1),)


@pytest.mark.parametrize("edge", [(0, 2), (2, 0), (-1, 0)])
def test_edge_out_of_range_is_a_key_error_that_names_the_edge(edge):
    with pytest.raises(KeyError, match=str(edge[0])):
        Topology(2, [edge])


def test_negative_size_is_refused():
    with pytest.raises(ValueError, match="n_nodes"):
        Topology(-1, [])


@given(n=st.integers(1, 9), k=st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_ring_has_neither_self_loops_nor_duplicates(n, k):
    topology = Topology.ring(n, k)
    for i in range(n):
        assert i not in topology.out[i]
        assert len(set(topology.out[i])) == len(topology.out[i]) == min(2 * k, n - 1)


def test_ring_of_one_two_and_four():
    assert Topology.ring(1).out == {0: []}
    assert Topology.ring(2).out == {0: [1], 1: [0]}
    assert sorted(Topology.ring(4, 2).out[0]) == [1, 2, 3]


@pytest.mark.parametrize("name", NAMED)
def test_named_graph_is_symmetric_and_strongly_connected(name):
    assert NAMED[name].is_symmetric
    assert NAMED[name].connectivity().kind == "strong"


def test_degrees_of_the_named_graphs():
    assert {len(NAMED["torus"].in_neighbors(i)) for i in range(12)} == {4}
    assert {len(NAMED["k_regular"].in_neighbors(i)) for i in range(8)} == {3}
    assert [len(Topology.exponential(8).in_neighbors(i)) for i in range(8)] == [3] * 8
    assert not Topology.exponential(8).is_symmetric


@given(rows=st.integers(1, 4), cols=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_torus_equals_the_periodic_grid_of_networkx(rows, cols):
    grid = networkx.grid_2d_graph(rows, cols, periodic=True)
    names = {node: node[0] * cols + node[1] for node in grid}
    mine = {(u, v) for u, v in Topology.torus(rows, cols).edges()}
    theirs = {(names[u], names[v]) for u, v in grid.edges() if u != v}
    assert mine == theirs | {(v, u) for u, v in theirs}


def test_random_graphs_repeat_with_their_seed():
    assert Topology.erdos_renyi(20, 0.3, seed=4) == Topology.erdos_renyi(20, 0.3, seed=4)
    assert Topology.erdos_renyi(20, 0.3, seed=4) != Topology.erdos_renyi(20, 0.3, seed=5)
    assert not Topology.erdos_renyi(20, 0.3, seed=4, directed=True).is_symmetric


@pytest.mark.parametrize(("n", "steps"), [(2, [1]), (8, [1, 2, 4]), (9, [1, 2, 4, 8]), (12, [1, 2, 4, 8])])
def test_exponential_steps_go_up_to_half_the_nodes_or_more(n, steps):
    assert Topology.exponential(n).out_neighbors(0) == tuple(steps)
    assert [one_peer_exponential(n)(t).out_neighbors(0) for t in range(2 * len(steps))] == [
        (step,) for step in steps * 2
    ]


@pytest.mark.parametrize(
    "build",
    [
        lambda: Topology.ring(0),
        lambda: Topology.ring(5, 0),
        lambda: Topology.k_regular(5, 3, seed=0),
        lambda: Topology.k_regular(3, 3, seed=0),
        lambda: Topology.erdos_renyi(5, 1.5, seed=0),
        lambda: Topology.star(3, center=3),
        lambda: Topology.dumbbell(4, bridges=3),
    ],
)
def test_impossible_graphs_are_refused_with_a_remedy(build):
    with pytest.raises(ValueError, match=r"got .*\. \w"):
        build()


def test_from_networkx_keeps_directions_and_refuses_named_nodes():
    directed = networkx.DiGraph([(0, 1), (1, 2)])
    assert Topology.from_networkx(directed).in_neighbors(2) == (1,)
    assert Topology.from_networkx(directed).in_neighbors(0) == ()
    with pytest.raises(ValueError, match="convert_node_labels_to_integers"):
        Topology.from_networkx(networkx.Graph([("a", "b")]))


def test_a_one_way_chain_is_weakly_connected_only():
    chain = Topology(3, [(0, 1), (1, 2)]).connectivity()
    assert (chain.weak, chain.strong, chain.kind) == (True, False, "weak")
    assert "never hear back" in str(chain)


def test_two_islands_are_listed():
    islands = Topology(4, [(0, 1), (1, 0), (2, 3)]).connectivity()
    assert islands.components == ((0, 1), (2, 3))
    assert "{0, 1} {2, 3}" in str(islands)


def test_honest_nodes_behind_a_byzantine_hub_are_not_connected():
    honest = Topology.star(5, center=4).connectivity(range(4), who="honest node")
    assert honest.kind == "none"
    assert "4 honest nodes" in str(honest)


@given(st.integers(1, 7), st.floats(0, 1), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_connectivity_agrees_with_networkx(n, p, seed):
    topology = Topology.erdos_renyi(n, p, seed=seed, directed=True)
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from((u, v) for u, v in topology.edges())
    found = topology.connectivity()
    assert found.strong == networkx.is_strongly_connected(graph)
    assert found.weak == networkx.is_weakly_connected(graph)
    assert {frozenset(c) for c in found.components} == set(
        map(frozenset, networkx.weakly_connected_components(graph))
    )


def test_schedule_takes_a_topology_a_sequence_and_a_callable():
    ring, complete = Topology.ring(5), Topology.complete(5)
    assert TopologySchedule(ring, 5).at(17) is ring
    assert TopologySchedule([ring, complete], 5).at(3) is complete
    assert TopologySchedule(lambda t: (ring, complete)[t % 2], 5).at(3) is complete


def test_schedule_names_the_node_count_it_needs():
    with pytest.raises(ValueError, match=r"6 .*got topology\.n=5"):
        TopologySchedule(Topology.ring(5), 6)
    with pytest.raises(ValueError, match="got none"):
        TopologySchedule([], 6)
    with pytest.raises(TypeError, match="got str"):
        TopologySchedule("ring", 6)
    with pytest.raises(ValueError, match=r"topology\.n=5"):
        TopologySchedule(lambda t: Topology.ring(5), 6).at(0)


def test_one_peer_exponential_is_connected_over_its_period_and_not_within_a_round():
    schedule = TopologySchedule(one_peer_exponential(8), 8)
    assert schedule.at(1).connectivity().kind == "none"
    assert schedule.over(3).connectivity().strong


def test_one_peer_exponential_averages_exactly_in_log2_n_rounds():
    values = np.arange(8.0)
    for t in range(3):
        topology = one_peer_exponential(8)(t)
        values = np.array([(values[i] + values[topology.in_neighbors(i)[0]]) / 2 for i in range(8)])
    np.testing.assert_array_equal(values, np.full(8, 3.5))


@pytest.mark.parametrize("build", [epidemic, random_pull])
def test_random_peers_change_by_round_and_repeat_with_the_seed(build):
    schedule = build(10, 3, seed=1)
    assert schedule(0) == build(10, 3, seed=1)(0)
    assert schedule(0) != schedule(1)
    assert all(i not in schedule(0).out[i] for i in range(10))


def test_whole_numbers_of_numpy_are_node_indices():
    three = np.int64(3)
    topology = Topology(three, [(np.int64(0), three - 1)])
    assert (type(topology.n), topology.edges()) == (int, (Edge(0, 2),))
    assert type(topology.out[0][0]) is int
    assert Topology.ring(three) == Topology.ring(3)
    assert Topology.exponential(np.int32(8)) == Topology.exponential(8)


@pytest.mark.parametrize("label", [float, bool])
def test_labels_that_only_equal_node_indices_are_refused(label):
    graph = networkx.relabel_nodes(networkx.path_graph(2), {0: label(0), 1: label(1)})
    with pytest.raises(TypeError, match="edge ends must be a whole number"):
        Topology.from_networkx(graph)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Topology([(0, 1)], 3), TypeError, "n_nodes"),
        (lambda: Topology(3, None), TypeError, "edges"),
        (lambda: Topology(3, [(0, [1])]), TypeError, "edge ends"),
        (lambda: Topology(3, ["01"]), ValueError, "pair"),
        (lambda: Topology.torus("3", 3), TypeError, "rows"),
        (lambda: Topology.erdos_renyi(5, "0.5", seed=1), TypeError, "p must be a real number"),
        (lambda: Topology.erdos_renyi(5, 0.5, seed="a"), TypeError, "seed"),
        (lambda: Topology.k_regular(6, 3, seed=-1), ValueError, "seed"),
        (lambda: Topology.ring(4).in_neighbors(9), ValueError, r"0 … 3; got 9"),
        (lambda: Topology.ring(4).out_neighbors(-1), ValueError, r"0 … 3; got -1"),
        (lambda: Topology.ring(4).connectivity([0, 9]), ValueError, r"0 … 3; got 9"),
        (lambda: Topology.ring(4).connectivity(3), TypeError, "nodes"),
        (lambda: epidemic(4, 9, seed=0), ValueError, "s=9, n=4"),
        (lambda: random_pull(4, 2, seed="x"), TypeError, "seed"),
        (lambda: one_peer_exponential("4"), TypeError, "n must"),
    ],
)
def test_what_is_no_topology_is_refused_where_it_is_given(make, error, text):
    with pytest.raises(error, match=text):
        make()
