"""Distances from the mean of the rows, and along a direction that follows from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from byzflow.kernels.around import DIRECTIONS, around_block
from byzflow.kernels.intake import as_rows

WIDTH = 1500  # more than a tile


def by_definition(X, direction):
    X = X.astype(np.float64)
    finite = np.where(np.isfinite(X), X, np.nan)
    mean, deviation = np.nanmean(finite, axis=0), np.nanstd(finite, axis=0)
    p = {"std": deviation, "sign": np.sign(mean), "unit": mean}[direction]
    away = mean - X
    return (away**2).sum(1), (away * p).sum(1), (p**2).sum()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.float16])
def test_sums_are_those_of_the_definition(direction, kind):
    X = (np.random.default_rng(0).normal(size=(6, WIDTH)) + 3.0).astype(np.float16)
    X[4, 7], X[5, 1200] = np.nan, np.inf
    is_half = kind is torch.float16
    rows = as_rows([torch.from_numpy(x) for x in X] if is_half else list(X.astype(kind)))
    stats = around_block(rows, rows.span, direction)
    from_mean, along, sq_length = by_definition(X, direction)
    np.testing.assert_allclose(stats["from_mean"][:4], from_mean[:4], rtol=1e-12)
    np.testing.assert_allclose(stats["along"][:4], along[:4], rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(stats["sq_length"], sq_length, rtol=1e-12)
