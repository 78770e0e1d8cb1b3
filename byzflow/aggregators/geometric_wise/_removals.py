"""Which few points to take out of a pool so that its scatter has no eigenvalue above t.

With C the pool's scatter and r of its eigenvalues above t, taking out the set R of k points brings all of
them below t exactly if the principal submatrix on R of

    N = t (t I - C)^-1  -  1 1^T / |pool|

has r negative eigenvalues: taking out R subtracts ``Y_R^T (I + 1 1^T / m) Y_R`` from the scatter, and the
Schur complement of that update carries the signs over. So r > k is hopeless; r = k asks for points and pairs
with negative pivots; nodes with k <= 2 are settled by looking at all pairs at once, and those with a few more
by a search for such sets.
"""

from __future__ import annotations

import numpy as np

from byzflow.aggregators.geometric_wise._sign_search import signed_sets

__all__ = ("settle",)

_SLACK = 2e-12
"""How much above the limit, relatively, an eigenvalue is still of interest: subsets are looked at again."""


def settle(
    pool: np.ndarray,
    kept: np.ndarray,
    values: np.ndarray,
    vectors: np.ndarray,
    surplus: np.ndarray,
    limit: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Settle what can be settled in a batch of B nodes.

    Parameters
    ----------
    pool, kept : ndarray, (B, n) bool
        The nodes: which points are there, and which of them must stay.
    values, vectors : ndarray, (B, n) and (B, n, n)
        Eigenvalues, ascending, and eigenvectors of the pools' scatter.
    surplus : ndarray, (B,) int
        Points still to take out, k.
    limit : float
        Top eigenvalue to stay below, or to equal.

    Returns
    -------
    kept : ndarray, (B, n) bool
        With more points that must stay.
    alive : ndarray, (B,) bool
        Nodes that are still open.
    subsets : ndarray, (E, n) bool
        Subsets that may stay below the limit, from nodes that are now settled.
    """
    t = limit * (1.0 + _SLACK)
    above = (values > t).sum(axis=1)
    gap = t - values
    # Where rounding could decide (a far point, an eigenvalue at t) nothing is concluded.
    doubtful = np.abs(gap) <= 1e-12 * t
    sound = (values[:, -1] < 1e6 * t) & ~doubtful.any(axis=1)
    gap[doubtful] = t
    scaled = vectors * (t / gap)[:, None, :]
    N = scaled @ vectors.transpose(0, 2, 1)
    N -= 1.0 / pool.sum(axis=1)[:, None, None]
    pivots = np.einsum("bii->bi", N)
    free = pool & ~kept
    tight = sound & (above == surplus)
    single = free & (pivots < 0.0)
    minors = pivots[:, :, None] * pivots[:, None, :] - N * N
    pairs = (minors > 0.0) & single[:, :, None] & single[:, None, :]
    for _ in range(2):
        single &= pairs.sum(axis=2) >= (surplus - 1)[:, None]
        pairs &= single[:, :, None] & single[:, None, :]
    kept = np.where(tight[:, None], kept | (free & ~single), kept)
    free = pool & ~kept
    alive = ~(tight & (free.sum(axis=1) < surplus))
    last = sound & alive & (surplus == 1)
    last_two = sound & alive & (surplus == 2)
    one = np.where((above == 1)[:, None], single, free)[last]
    # Of two points: two negative eigenvalues, or exactly one, or whatever they are.
    both = free[:, :, None] & free[:, None, :]
    by_count = np.where((above == 1)[:, None, None], both & (minors < 0.0), both)
    two = np.where((above == 2)[:, None, None], pairs, by_count)[last_two]
    alive &= ~last & ~last_two & (free.sum(axis=1) > 0)
    found = [_without_one(pool[last], one), _without_two(pool[last_two], two)]
    # N changes with C by ``scaled (V^T E V) scaled^T / t``, where C changes by E: here it does by rounding.
    errors = np.sqrt(1e-14 * values[:, -1] / t)[:, None, None] * scaled
    for i in np.flatnonzero(alive & sound):
        out = signed_sets(N[i], np.flatnonzero(free[i]), int(surplus[i]), int(above[i]), errors[i])
        if out is not None:
            alive[i] = False
            found.append(_without(pool[i], out))
    return kept, alive, np.concatenate(found)


def _without(pool: np.ndarray, out: np.ndarray) -> np.ndarray:
    subsets = np.repeat(pool[None], len(out), axis=0)
    np.put_along_axis(subsets, out, False, axis=1)
    return subsets


def _without_one(pool: np.ndarray, out: np.ndarray) -> np.ndarray:
    node, i = np.nonzero(out)
    subsets = pool[node]
    subsets[np.arange(len(node)), i] = False
    return subsets


def _without_two(pool: np.ndarray, out: np.ndarray) -> np.ndarray:
    node, i, j = np.nonzero(np.triu(out, 1))
    subsets = pool[node]
    here = np.arange(len(node))
    subsets[here, i] = False
    subsets[here, j] = False
    return subsets
