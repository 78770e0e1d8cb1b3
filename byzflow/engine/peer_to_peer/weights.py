"""Mixing weights: how much a node gives to its own vector and to its in-neighbours', and how fast that mixes.

``W[i, j]`` is the weight that receiver i gives to sender j. Rows sum to one, with a positive own weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.exceptions import suggest

__all__ = (
    "Scheme",
    "check_scheme",
    "is_doubly_stochastic",
    "local_weights",
    "mixing_matrix",
    "own_first",
    "spectral_gap",
)

Scheme = Literal["uniform", "metropolis"]
_SCHEMES = ("metropolis", "uniform")


def local_weights(topology: Topology, node: int, scheme: Scheme = "metropolis") -> NDArray[np.float64]:
    """Weights of one node: its own first, then its in-neighbours' in ascending order.

    * ``"uniform"``: 1 / (1 + dᵢ) each, with dᵢ the in-degree.
    * ``"metropolis"``: 1 / (1 + max(dᵢ, dⱼ)) for neighbour j, the rest for itself [1]_. On a symmetric
      topology the matrix of all rows is symmetric, hence doubly stochastic: plain gossip keeps the average.
      On a directed one d is the in-degree, each row still sums to one, but columns need not.

    Returns
    -------
    ndarray of float64, shape ``(1 + in-degree,)``

    References
    ----------
    .. [1] Xiao, Boyd, Kim, "Distributed average consensus with least-mean-square deviation", JPDC 2007.

    Examples
    --------
    >>> local_weights(Topology.star(4), 1)
    array([0.75, 0.25])
    >>> local_weights(Topology.star(4), 1, "uniform")
    array([0.5, 0.5])
    """
    check_scheme("scheme", scheme)
    senders = _checked(topology).in_neighbors(node)
    degree = len(senders)
    if scheme == "uniform":
        return np.full(1 + degree, 1 / (1 + degree))
    shares = np.array([1 / (1 + max(degree, len(topology.in_neighbors(j)))) for j in senders])
    return np.concatenate(([1 - shares.sum()], shares))


def check_scheme(name: str, scheme: object) -> None:
    """Raise ValueError unless there is such a scheme.

    Examples
    --------
    >>> check_scheme("mixing", "uniform")
    """
    if scheme not in _SCHEMES:
        raise ValueError(
            f"{name} must be one of {_SCHEMES}; got {scheme!r}.{suggest(str(scheme), _SCHEMES)} "
            "Choose one of them."
        )


def own_first(neighbors: Sequence[float]) -> tuple[float, ...]:
    """Return the weights of the own row, which takes what is left, and of neighbours.

    Examples
    --------
    >>> own_first((0.25, 0.5))
    (0.25, 0.25, 0.5)
    """
    return (1 - sum(neighbors), *neighbors)


def mixing_matrix(topology: Topology, scheme: Scheme = "metropolis") -> NDArray[np.float64]:
    """Weights of all nodes as one ``(n, n)`` matrix, receivers in rows.

    Examples
    --------
    >>> mixing_matrix(Topology.complete(2))
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    W = np.zeros((_checked(topology).n, topology.n))
    for node in range(topology.n):
        W[node, [node, *topology.in_neighbors(node)]] = local_weights(topology, node, scheme)
    return W


def is_doubly_stochastic(W: NDArray[np.float64], *, tol: float = 1e-12) -> bool:
    """Whether W is non-negative with all rows *and* columns summing to one, so that mixing keeps the average.

    Examples
    --------
    >>> is_doubly_stochastic(mixing_matrix(Topology.star(4)))
    True
    >>> is_doubly_stochastic(mixing_matrix(Topology.star(4), "uniform"))
    False
    """
    W = _square(W)
    sums = np.concatenate((W.sum(axis=0), W.sum(axis=1)))
    return bool((W >= 0).all() and np.abs(sums - 1).max(initial=0.0) <= tol * max(1, len(W)))


def spectral_gap(W: NDArray[np.float64]) -> float:
    """1 − |λ₂|: the share of disagreement that a round of plain gossip removes in the long run; 0 means none.

    λ₂ is the eigenvalue of W of second-largest modulus. Where W is symmetric, every round removes at least
    that share. A disconnected topology has gap 0.

    Examples
    --------
    >>> round(spectral_gap(mixing_matrix(Topology.complete(5))), 12)
    1.0
    >>> round(spectral_gap(mixing_matrix(Topology(4, [(0, 1), (1, 0), (2, 3), (3, 2)]))), 12)
    0.0
    """
    W = _square(W)
    if len(W) < 2:
        return 1.0
    values = np.linalg.eigvalsh(W) if np.array_equal(W, W.T) else np.linalg.eigvals(W)
    return float(1 - np.sort(np.abs(values))[-2])


def _checked(topology: Topology) -> Topology:
    if not isinstance(topology, Topology):
        raise TypeError(
            f"topology must be a Topology; got {type(topology).__name__}. Pass the topology first."
        )
    return topology


def _square(W: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.asarray(W)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.dtype.kind not in "fiu":
        raise ValueError(
            f"W must be a square matrix of real numbers; got {type(W).__name__} of shape {matrix.shape}. "
            "Take mixing_matrix(topology)."
        )
    return matrix
