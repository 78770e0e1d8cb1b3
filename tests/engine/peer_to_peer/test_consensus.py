"""Consensus distance: the mean squared distance to the mean, and no agreement where there are no numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from byzflow.engine.peer_to_peer.consensus import consensus_distance


def test_distance_is_that_to_the_mean():
    X = np.random.default_rng(0).normal(size=(5, 7)) + 1e6
    expected = ((X - X.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert consensus_distance(list(X)) == pytest.approx(expected, rel=1e-6)
    assert consensus_distance([[0.0, 0.0], [2.0, 2.0]]) == 2.0


def test_distance_has_the_same_bits_whether_vectors_come_in_one_matrix_or_not():
    X = np.random.default_rng(1).normal(size=(9, 10_000))
    apart = [row[None, ::2].reshape(-1) if i % 2 else row[::2].tolist() for i, row in enumerate(X)]
    assert consensus_distance(list(X[:, ::2])) == consensus_distance(apart)
    assert consensus_distance(list(torch.tensor(X[:, ::2]))) == consensus_distance(apart)


@pytest.mark.parametrize(
    "kind",
    [
        lambda x: x.astype(np.float32),
        lambda x: x.astype(">f8"),
        lambda x: x.astype(np.float16),
        lambda x: x.round().astype(np.int64),
        lambda x: x.reshape(2, -1),
        lambda x: x.astype(np.float16).tolist(),
        lambda x: torch.tensor(x, dtype=torch.bfloat16),
        lambda x: torch.nn.Parameter(torch.tensor(x)),
        lambda x: torch.tensor(x + 1j * x).conj().imag,
        lambda x: torch.tensor(x) if x[0] > 0 else x.astype(np.float32),
    ],
)
def test_vectors_may_be_of_any_kind_and_of_several(kind):
    rows = [kind(x) for x in np.random.default_rng(2).normal(size=(9, 10_000))]
    X = np.stack(
        [torch.as_tensor(row).detach().double().resolve_neg().numpy().ravel() for row in map(native, rows)]
    )
    assert consensus_distance(rows) == pytest.approx(((X - X.mean(axis=0)) ** 2).sum(axis=1).mean())


def native(row):
    """An array of this machine's byte order, which torch insists on."""
    return row.astype(row.dtype.newbyteorder("=")) if isinstance(row, np.ndarray) else row


def test_a_single_model_agrees_with_itself_and_none_do_too():
    assert consensus_distance([]) == consensus_distance([np.ones(3)]) == consensus_distance([[], []]) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_that_has_diverged_agrees_with_nobody(bad):
    assert math.isnan(consensus_distance([np.array([bad, 1.0]), np.ones(2)]))


def test_vectors_of_different_shapes_are_named():
    with pytest.raises(ValueError, match=r"one shape; got \[\(2,\), \(3,\)\]"):
        consensus_distance([np.zeros(3), np.zeros(2)])
