"""Streams depend on their key and on nothing else."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.geometric_wise import DivideAndConquer
from byzflow.aggregators.pipeline import Pipeline
from byzflow.engine.node.streams import generator, seeded, torch_seed
from byzflow.pre_aggregators import Bucketing


def test_every_part_of_the_key_matters_and_the_order_of_calls_does_not() -> None:
    keys = list(itertools.product([0, 1], [0, 1, "a", "b"], [0, 7], ["batch", "model"]))
    forward = {key: generator(*key).integers(2**62) for key in keys}
    backward = {key: generator(*key).integers(2**62) for key in reversed(keys)}
    assert forward == backward
    assert len(set(forward.values())) == len(keys)


def test_the_stream_is_pinned() -> None:
    assert np.allclose(generator(0, 0, 0, "batch").random(2), generator(0, 0, 0, "batch").random(2))
    assert torch_seed(0, 0, 0, "batch") == int(generator(0, 0, 0, "batch").integers(2**63))


def orders(rule: Any, seed: int, round: int) -> list[list[list[float]]]:
    """What the pre-aggregators of a seeded pipeline make of eight rows."""
    parts = seeded(rule, seed, round, 8).pre_aggregators
    return [np.concatenate(part.pre_aggregate(list(np.eye(8)))).tolist() for part in parts]


def test_the_parts_of_a_pipeline_draw_from_streams_of_their_own() -> None:
    rule = Pipeline((Bucketing(2), Bucketing(2)), DivideAndConquer(f=1))
    first, second = orders(rule, 3, 0)
    assert first != second
    assert orders(rule, 3, 0) == [first, second]
    assert orders(rule, 3, 1)[0] != first != orders(rule, 4, 0)[0]


def test_whoever_has_a_source_keeps_it() -> None:
    rule = Pipeline((Bucketing(2, perm=range(8)),), CoordinateWiseMedian())
    assert seeded(rule, 3, 0, 8) == rule
    assert seeded(rule, None, 0, 8) is rule
