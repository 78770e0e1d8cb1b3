"""Every way of dealing out data gives each row to exactly one node, none to nobody, and repeats itself."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.exceptions import ConfigError
from byzflow.experiments.partition import Dirichlet, Extreme, GammaSimilarity, Iid, Partition

WAYS = [Iid(), Extreme(), GammaSimilarity(0.33), GammaSimilarity(1.0), Dirichlet(0.1), Dirichlet(100.0)]
LABELS = np.random.default_rng(0).integers(0, 10, size=503)


@pytest.mark.parametrize("way", WAYS, ids=repr)
@pytest.mark.parametrize("nodes", [1, 7, 10])
def test_every_row_goes_to_exactly_one_node(way: Partition, nodes: int) -> None:
    parts = way.split(LABELS, nodes, np.random.default_rng(1))
    assert len(parts) == nodes
    assert sorted(np.concatenate(parts).tolist()) == list(range(LABELS.size))


@pytest.mark.parametrize("way", WAYS, ids=repr)
def test_no_node_is_left_empty(way: Partition) -> None:
    labels = np.arange(12) % 2
    assert all(part.size for part in way.split(labels, 12, np.random.default_rng(2)))


@pytest.mark.parametrize("way", WAYS, ids=repr)
def test_the_same_seed_gives_the_same_parts(way: Partition) -> None:
    first, second = (way.split(LABELS, 5, np.random.default_rng(3)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("way", WAYS, ids=repr)
def test_fewer_rows_than_nodes_are_refused(way: Partition) -> None:
    with pytest.raises(ConfigError, match="2 rows for 3 nodes"):
        way.split(np.array([0, 1]), 3, np.random.default_rng(0))


def _labels_seen(way: Partition) -> float:
    parts = way.split(LABELS, 10, np.random.default_rng(4))
    return float(np.mean([np.unique(LABELS[part]).size for part in parts]))


def test_heterogeneity_grows_from_iid_to_extreme() -> None:
    assert _labels_seen(Iid()) == 10
    assert _labels_seen(Dirichlet(0.1)) < _labels_seen(Dirichlet(10.0))
    assert _labels_seen(Extreme()) <= 3


@pytest.mark.parametrize(
    ("way", "value"),
    [(Dirichlet, 0.0), (Dirichlet, -1.0), (Dirichlet, np.inf), (GammaSimilarity, 1.1)],
)
def test_parameters_outside_their_range_are_refused(way: type, value: float) -> None:
    with pytest.raises(ConfigError, match="must"):
        way(value)
