"""Small clusterings of n points on the host, deterministic: the largest cluster of a few features."""

from __future__ import annotations

import numpy as np

from byzflow.kernels.small import product

__all__ = ("larger_half", "largest_mode")

_ROUNDS = 300


def largest_mode(points: np.ndarray) -> np.ndarray:
    """Return the indices of the largest cluster that mean shift finds.

    Every point climbs to the mean of the points within the bandwidth until it rests; a cluster is what
    comes to rest within the bandwidth of one of them. The bandwidth is the mean distance to the
    ``n // 2``-th nearest point, itself included. Equal sizes: the cluster of the lowest index.

    Parameters
    ----------
    points : ndarray, (n, k)
        Features.

    References
    ----------
    .. [1] Comaniciu, Meer, "Mean shift: A robust approach toward feature space analysis", PAMI 2002.

    Examples
    --------
    >>> largest_mode(np.array([[0.0], [0.1], [0.2], [9.0]]))
    array([0, 1, 2])
    """
    apart = _distances(points, points)
    rank = max(1, len(points) // 2)
    bandwidth = float(np.sort(apart, axis=1)[:, rank - 1].mean())
    if bandwidth == 0.0:
        return _most(apart == 0.0)
    seeds = points
    for _ in range(_ROUNDS):
        near = _distances(seeds, points) <= bandwidth
        moved = product(near, points) / near.sum(axis=1, keepdims=True)
        rest = float(np.abs(moved - seeds).max())
        seeds = moved
        if rest <= 1e-3 * bandwidth:
            break
    return _most(_distances(seeds, seeds) <= bandwidth)


def larger_half(cosines: np.ndarray) -> np.ndarray:
    """Return the indices of the larger of the two clusters of average linkage on ``1 - cosine``.

    Two clusters of any two or more rows, also where the last merges have equal heights. Equal sizes: the
    cluster of index 0.

    Parameters
    ----------
    cosines : ndarray, (n, n)
        Cosine similarity.

    Examples
    --------
    >>> larger_half(np.array([[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]]))
    array([1, 2])
    """
    from scipy.cluster.hierarchy import linkage, to_tree

    n = len(cosines)
    if n < 2:
        return np.arange(n)
    above = np.triu_indices(n, 1)
    tree = linkage(np.clip(1.0 - cosines[above], 0.0, 2.0), method="average")
    labels = np.zeros(n)
    labels[to_tree(tree).left.pre_order()] = 1.0  # the last merge, not a height: several merges may have it
    return _most(labels[:, None] == labels)


def _most(together: np.ndarray) -> np.ndarray:
    """Return the members of the row with the most members; the first such row."""
    return np.flatnonzero(together[np.argmax(together.sum(axis=1))])


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    gaps: np.ndarray = np.sqrt(np.square(a[:, None, :] - b[None, :, :]).sum(axis=2))
    return gaps
