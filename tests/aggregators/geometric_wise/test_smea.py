"""SMEA equals exhaustive search, and is fast where that is hopeless."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from byzflow.aggregators.geometric_wise import _least_eigenvalue
from byzflow.aggregators.geometric_wise._least_eigenvalue import least_top_eigenvalue
from byzflow.aggregators.geometric_wise._sign_search import signed_sets
from byzflow.aggregators.geometric_wise.smea import SMEA
from byzflow.exceptions import ToleranceError


def top(X, S):
    C = X[list(S)] - X[list(S)].mean(axis=0)
    return np.linalg.eigvalsh(C @ C.T)[-1]


def exhaustive(X, m):
    """The least top eigenvalue, and the first subset that has it up to rounding."""
    values = {S: top(X, S) for S in itertools.combinations(range(len(X)), m)}
    least = min(values.values())
    return least, next(S for S, value in values.items() if value <= least * (1 + 1e-10) + 1e-13)


@pytest.mark.parametrize("kind", ["continuous", "lattice", "wide", "liars"])
@pytest.mark.parametrize("seed", range(25))
def test_subset_equals_exhaustive_search(seed, kind):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 11)
    m = n - rng.integers(0, (n + 1) // 2)
    d = 300 if kind == "wide" else rng.integers(1, 4)
    X = rng.integers(0, 4, size=(n, d)).astype(float) if kind == "lattice" else rng.normal(size=(n, d))
    if kind == "liars":
        X[: n - m] += rng.choice([1.0, 100.0, 1e20])
    least, first = exhaustive(X, m)
    centred = X - X[-1]
    subset = tuple(least_top_eigenvalue(centred @ centred.T, m))
    assert top(X, subset) <= least * (1 + 1e-9) + 1e-12
    if least > 1e-9:
        assert subset == first


def test_rows_that_agree_are_found_without_a_search():
    X = np.vstack([np.ones((30, 2)), np.random.default_rng(0).normal(size=(10, 2))])
    np.testing.assert_allclose(SMEA(f=10).aggregate(X), [1.0, 1.0], rtol=1e-15)


@pytest.mark.parametrize(("n", "f", "d", "limit"), [(24, 6, 20, 1.0), (24, 6, 2000, 2.0), (30, 8, 20, 2.0)])
def test_pure_noise_is_decided_in_time(n, f, d, limit):
    X = np.random.default_rng(0).normal(size=(n, d))
    least_top_eigenvalue(np.eye(3), 2)  # compiled, maybe, before the clock runs
    begun = time.thread_time()  # the machine may be busy with other things, or stand still
    least_top_eigenvalue(X @ X.T, n - f)
    assert time.thread_time() - begun < limit


def circle(n):
    angles = 2 * np.pi * np.arange(n) / n
    return np.stack((np.cos(angles), np.sin(angles)), axis=1)


@pytest.mark.parametrize(
    ("X", "limit"),
    [(circle(24), 400), (np.repeat(np.vstack((np.eye(3), -np.eye(3))), 4, axis=0), 100)],
    ids=["circle", "copies"],
)
def test_points_in_a_pattern_take_few_nodes(X, limit, monkeypatch):
    nodes, children = [], _least_eigenvalue._children
    monkeypatch.setattr(
        _least_eigenvalue, "_children", lambda best, *node: nodes.extend(node[0]) or children(best, *node)
    )
    least_top_eigenvalue(X @ X.T, 18)
    assert len(nodes) < limit


def near_simplex(eps, seed, n):
    E = np.random.default_rng(seed).normal(size=(n, n))
    return np.eye(n) + 0.5 * eps * (E + E.T)


@pytest.mark.parametrize(("eps", "limit"), [(1e-3, 1000), (1e-6, 1000), (1e-9, 20_000)])
def test_distances_that_nearly_agree_take_few_nodes(eps, limit, monkeypatch):
    nodes, children = [], _least_eigenvalue._children
    monkeypatch.setattr(
        _least_eigenvalue, "_children", lambda best, *node: nodes.extend(node[0]) or children(best, *node)
    )
    least_top_eigenvalue(near_simplex(eps, 0, 30), 22)
    assert len(nodes) < limit


@pytest.mark.parametrize("eps", [1e-6, 1e-8, 1e-9, 3e-10, 1e-10, 3e-11])
@pytest.mark.parametrize("seed", range(4))
def test_first_of_nearly_equal_subsets_is_that_of_exhaustive_search(eps, seed):
    gram, m = near_simplex(eps, seed, 11), 7
    masks = np.array([np.isin(np.arange(11), S) for S in itertools.combinations(range(11), m)])
    values = np.linalg.eigvalsh(_least_eigenvalue.scatter(gram, masks))[:, -1]
    first = np.flatnonzero(masks[np.flatnonzero(values <= values.min() * (1 + 1e-10))[0]])
    assert least_top_eigenvalue(gram, m).tolist() == first.tolist()


def test_of_equal_rows_the_first_stay():
    X = np.repeat(np.vstack((np.eye(2), -np.eye(2))), 3, axis=0)
    X[5] *= 9.0
    assert tuple(least_top_eigenvalue(X @ X.T, 8)) == exhaustive(X, 8)[1]


@pytest.mark.parametrize("seed", range(20))
def test_signed_sets_are_those_with_so_many_negative_eigenvalues(seed):
    rng = np.random.default_rng(seed)
    n, k, r = int(rng.integers(5, 10)), int(rng.integers(2, 5)), int(rng.integers(0, 4))
    values, vectors = np.linalg.eigh(rng.normal(size=(n, n)) + np.eye(n)[::-1])
    values = np.where(np.arange(n) < r, -1.0, 1.0) * (np.abs(values) + 0.1)
    N = (vectors * values) @ vectors.T
    negative = lambda S: (np.linalg.eigvalsh(N[np.ix_(S, S)]) < 0.0).sum()  # noqa: E731
    expected = [S for S in itertools.combinations(range(n), k) if negative(S) == r]
    found = signed_sets(N, np.arange(n), k, r, np.full((n, 1), 1e-7))
    assert sorted(map(tuple, found.tolist())) == expected


@pytest.mark.parametrize("seed", range(200))
def test_signed_sets_misses_none_of_a_matrix_that_is_known_with_errors(seed):
    rng = np.random.default_rng(seed)
    n, k, r = 8, int(rng.integers(2, 6)), int(rng.integers(1, 4))
    values, vectors = np.linalg.eigh(rng.normal(size=(n, n)))
    exact = (vectors * np.where(np.arange(n) < r, -1.0, 1.0) * np.abs(values)) @ vectors.T
    errors = rng.normal(size=(n, n)) * 10.0 ** rng.uniform(-2.5, -1.0, (n, 1))
    turn, _ = np.linalg.qr(rng.normal(size=(n, n)))
    E = (turn * rng.choice([-1.0, 1.0], n)) @ turn.T
    found = signed_sets(exact + errors @ E @ errors.T, np.arange(n), k, r, errors)
    if found is not None:
        negative = lambda S: (np.linalg.eigvalsh(exact[np.ix_(S, S)]) < 0.0).sum()  # noqa: E731
        wanted = {S for S in itertools.combinations(range(n), k) if negative(S) == r}
        assert wanted <= {tuple(S) for S in found.tolist()}


def test_signed_sets_gives_up_on_a_pivot_that_may_have_either_sign():
    assert signed_sets(np.diag([0.0, 0.0, -1.0]), np.arange(3), 2, 1, np.full((3, 1), 1e-8)) is None


def test_signed_sets_takes_such_a_pivot_last_and_gives_the_sets_that_may_be_wanted():
    found = signed_sets(np.diag([0.0, 1.0, -1.0]), np.arange(3), 2, 1, np.full((3, 1), 1e-8))
    assert sorted(map(tuple, found.tolist())) == [(0, 1), (0, 2), (1, 2)]


def test_the_calmest_rows_are_averaged():
    rows = [np.array([v]) for v in (0.0, 1.0, 7.0, 2.0)]
    np.testing.assert_array_equal(SMEA(f=1).aggregate(rows), [1.0])


def test_equally_calm_rows_go_to_the_first_subset():
    rows = [np.array([v]) for v in (3.0, 2.0, 1.0, 0.0)]
    np.testing.assert_allclose(SMEA(f=1).aggregate(rows), [2.0], rtol=1e-15)


def test_too_many_liars_are_refused():
    with pytest.raises(ToleranceError, match="2 f < n; got f=1, n=2"):
        SMEA(f=1).aggregate([np.zeros(1), np.ones(1)])
