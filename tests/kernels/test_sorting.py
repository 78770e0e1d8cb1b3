"""Columns are sorted by the bits of their numbers, with the same answer however the rows lie."""

from __future__ import annotations

import numpy as np
import pytest

from byzflow.kernels import columns
from byzflow.kernels.native import sorting
from byzflow.kernels.rows import Window

RULES = {
    "median": columns.lower_median,
    "trimmed mean": lambda X: columns.trimmed_mean(X, 2),
    "mean around the median": lambda X: columns.mean_around_median(X, X.shape[0] - 2),
    "mean around the trimmed mean": lambda X: columns.mean_around_trimmed(X, 2, X.shape[0] - 2),
}
MANY = [*range(1, 70), 80, 97, 100, 128, 129, 160, 200, 257, 300, 513, 1030]


def hostile(n, width, dtype):
    """Numbers with many ties, both zeros, both infinities, and NaN of either sign."""
    rng = np.random.default_rng(n)
    X = rng.integers(-3, 3, (n, width)).astype(dtype)
    for value in (-0.0, 0.0, np.inf, -np.inf, np.nan, -np.nan):
        X[rng.random(X.shape) < 0.05] = value
    return X


def bits(X):
    return X.view(np.int32 if X.dtype == np.float32 else np.int64)


def ranked(X):
    """Sort columns in one tile."""
    n, width = X.shape
    tile, table, copies = sorting.new_tile(n, X)
    sorting.open_tile(Window.of(X).addresses, 0, width, copies, table)
    sorting.sort_tile(table, 0, n, tile, width * X.itemsize)
    sorting.restore(tile, 0, n, width * X.itemsize)
    return tile[:n, :width].copy()


def by_definition(X):
    """Sort by sign and size, NaN last."""
    return np.take_along_axis(X, np.lexsort((~np.signbit(X), X, np.isnan(X)), axis=0), axis=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", MANY)
def test_columns_come_out_in_order_with_nan_last(n, dtype):
    X = hostile(n, 61, dtype)
    got, expected = ranked(X), by_definition(X)
    assert np.array_equal(got, expected, equal_nan=True)
    assert (np.signbit(got) == np.signbit(expected))[~np.isnan(expected)].all()
    assert (np.sort(bits(got), axis=0) == np.sort(bits(X), axis=0)).all()
    assert columns.lower_median(X).tobytes() == got[(n - 1) // 2].tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [3, 20, 64])
def test_the_order_of_rows_does_not_change_a_bit(n, dtype):
    X = hostile(n, 300, dtype)
    shuffled = np.random.default_rng(0).permutation(X)
    assert columns.lower_median(X).tobytes() == columns.lower_median(shuffled).tobytes()
    for rule in (lambda X: columns.trimmed_mean(X, 1), lambda X: columns.mean_around_median(X, n - 1)):
        assert np.array_equal(rule(X), rule(shuffled), equal_nan=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 300])
def test_a_column_does_not_depend_on_those_around_it(width, dtype):
    wide = hostile(20, width + 64, dtype)
    before = wide.copy()
    for name, rule in RULES.items():
        part = rule(wide[:, 32 : 32 + width])
        assert part.tobytes() == rule(wide)[32 : 32 + width].tobytes(), name
    assert wide.tobytes() == before.tobytes()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", [5, 20, 64])
def test_rows_are_read_where_they_lie(n, rule):
    X = np.random.default_rng(n).standard_normal((n, 700)).astype(np.float32)
    window = Window(Window.of(X).addresses, 40, (n, 333), np.float32, X)
    assert RULES[rule](window).tobytes() == RULES[rule](X[:, 40:373]).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [7, 16, 33, 64])
def test_means_are_those_of_the_definition_in_float64_to_the_bit(n, dtype):
    X = np.random.default_rng(n).standard_normal((n, 500)).astype(dtype)
    X[0] = np.inf
    wide = np.sort(X, axis=0).astype(np.float64)

    def mean(first, last):
        total = np.zeros(500)
        for i in range(first, last):
            total += wide[i]
        return total * (1 / (last - first))

    def around(centre, keep):
        total, always = np.zeros(500), range(n - keep, keep)  # these are in every window, and added first
        for c in range(500):
            far = [(abs(wide[i, c] - centre[c]), i) for i in range(n)]
            for i in sorted((i for _, i in sorted(far)[:keep]), key=lambda i: (i not in always, i)):
                total[c] += wide[i, c]
        return total * (1 / keep)

    f, middle = n // 3, (n - 1) // 2
    assert columns.trimmed_mean(X, f).tobytes() == mean(f, n - f).astype(dtype).tobytes()
    for keep in (1, f, n - f, n - 1):
        centre = wide[middle]
        assert columns.mean_around_median(X, keep).tobytes() == around(centre, keep).astype(dtype).tobytes()
        centre = mean(f, n - f)
        got = columns.mean_around_trimmed(X, f, keep)
        assert got.tobytes() == around(centre, keep).astype(dtype).tobytes()
