"""Noise has one number for each column, however and in whatever order the columns are read."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import erfc, sqrt

import numpy as np
import pytest

from byzflow.kernels.blocks import Span
from byzflow.kernels.noise import NormalColumns, NormalStream, fresh_seed, uniform

D = 20_011
CUTS = [[0, D], [0, 1, 2, 3, 5, 8, 4099, D], [0, 8191, 8192, 8193, D], list(range(0, D, 997)) + [D]]


def spans(cuts):
    return [Span(lo, hi) for lo, hi in pairwise(cuts)]


@pytest.mark.parametrize("cuts", CUTS, ids=len)
def test_uniform_numbers_belong_to_their_columns(cuts):
    whole = uniform((3, 1), Span(0, D))
    parts = [uniform((3, 1), span) for span in reversed(spans(cuts))]
    assert np.array_equal(np.concatenate(parts[::-1]), whole)


def test_uniform_streams_of_different_keys_are_unlike():
    a, b, c = (uniform(key, Span(0, D)) for key in ((3, 1), (3, 2), (3,)))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03
    assert abs(np.corrcoef(a, c)[0, 1]) < 0.03


def test_uniform_numbers_are_uniform():
    counts, _ = np.histogram(uniform((0,), Span(0, D)), bins=10, range=(0.0, 1.0))
    assert (abs(counts - D / 10) < 5 * np.sqrt(D / 10)).all()


@pytest.mark.parametrize("cuts", CUTS, ids=len)
@pytest.mark.parametrize("backwards", [False, True])
def test_normal_stream_is_that_of_numpy(cuts, backwards):
    stream = NormalStream(5, -1.0, 3.0)
    order = spans(cuts)[::-1] if backwards else spans(cuts)
    parts = [stream.read(span) for span in order]
    whole = np.concatenate(parts[::-1] if backwards else parts)
    assert np.array_equal(whole, np.random.default_rng(5).normal(-1.0, 3.0, D))


def test_normal_stream_may_be_shared_by_threads_and_sent_away():
    stream = NormalStream(5, 0.0, 1.0)
    stream.read(Span(0, 100))
    expected = np.random.default_rng(5).normal(0.0, 1.0, D)
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(stream.read, spans(CUTS[3])))
    assert np.array_equal(np.concatenate(parts), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(stream)).read(Span(0, D)), expected)


def test_fresh_seeds_differ():
    assert fresh_seed() != fresh_seed()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_columns_do_not_depend_on_the_cut(dtype):
    noise = NormalColumns(3, -1.0, 2.0)
    whole = noise.read(Span(0, 50_000), dtype)
    cuts = [0, 5, 16_384, 20_000, 40_000, 50_000]
    np.testing.assert_array_equal(np.concatenate([noise.read(span, dtype) for span in spans(cuts)]), whole)
    backwards = [noise.read(span, dtype) for span in reversed(spans(cuts))]
    np.testing.assert_array_equal(np.concatenate(backwards[::-1]), whole)
    assert abs(whole.mean() + 1.0) < 0.05
    assert abs(whole.std() - 2.0) < 0.05


def test_normal_columns_are_normal_out_to_the_tails():
    count = 1_000_000
    numbers = NormalColumns(1 << 100, 0.0, 1.0).read(Span(0, count), np.float64)
    for edge in (0.25, 1.0, 2.0, 3.0, 3.65, 4.0):  # the tail has a method of its own from 3.654 on
        for beyond in (numbers > edge, numbers < -edge):
            expected = count * erfc(edge / sqrt(2.0)) / 2.0
            assert abs(beyond.sum() - expected) < 5.0 * sqrt(expected)


def test_normal_columns_of_other_seeds_and_columns_are_unlike():
    whole = NormalColumns(3, 0.0, 1.0).read(Span(0, D + 1), np.float64)
    others = [NormalColumns(seed, 0.0, 1.0).read(Span(0, D), np.float64) for seed in (2, 4, 3 | 1 << 63)]
    for other in (*others, whole[1:]):
        assert abs(np.corrcoef(whole[:-1], other)[0, 1]) < 0.04
