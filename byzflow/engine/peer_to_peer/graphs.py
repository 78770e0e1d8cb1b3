"""Edge lists of the standard communication graphs: plain functions of sizes and seeds, no `Topology` here.

Every function yields ordered pairs ``(u, v)``, meaning "u sends to v", without self-loops or duplicates.
Undirected graphs yield both directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, permutations

import numpy as np

from byzflow.operators.checks import index, nonnegative, real

__all__ = (
    "complete",
    "dumbbell",
    "erdos_renyi",
    "exponential",
    "k_regular",
    "one_peer",
    "random_out",
    "ring",
    "star",
    "torus",
)

Pair = tuple[int, int]


def _size(name: str, value: int, least: int) -> int:
    whole = index(name, value)
    if whole < least:
        raise ValueError(f"{name} must be at least {least}; got {value}. Raise it to {least} or more.")
    return whole


def _both_ways(pairs: Iterable[Pair]) -> Iterator[Pair]:
    for u, v in pairs:
        yield u, v
        yield v, u


def _offsets(n: int, steps: Iterable[int]) -> Iterator[Pair]:
    distinct = list(dict.fromkeys(step % n for step in steps if step % n))
    return ((i, (i + step) % n) for i in range(n) for step in distinct)


def complete(n: int) -> Iterator[Pair]:
    """Every ordered pair of different nodes.

    Examples
    --------
    >>> list(complete(2))
    [(0, 1), (1, 0)]
    """
    n = _size("n", n, 1)
    return permutations(range(n), 2)


def ring(n: int, k: int = 1) -> Iterator[Pair]:
    """Each node to its k nearest on either side, modulo n.

    Examples
    --------
    >>> list(ring(2))
    [(0, 1), (1, 0)]
    """
    n = _size("n", n, 1)
    k = _size("k", k, 1)
    return _offsets(n, (step for j in range(1, k + 1) for step in (j, -j)))


def exponential(n: int) -> Iterator[Pair]:
    """Directed: each node i to i + 1, i + 2, i + 4, … modulo n, so that degrees grow like log n.

    Examples
    --------
    >>> [v for u, v in exponential(8) if u == 0]
    [1, 2, 4]
    """
    n = _size("n", n, 1)
    return _offsets(n, (2**j for j in range((n - 1).bit_length())))


def one_peer(n: int, round_number: int) -> Iterator[Pair]:
    """One round of the one-peer exponential graph: each node i to i + 2**(t mod ⌈log₂ n⌉) modulo n.

    Examples
    --------
    >>> [[v for u, v in one_peer(8, t) if u == 0] for t in range(4)]
    [[1], [2], [4], [1]]
    """
    n = _size("n", n, 1)
    return _offsets(n, (2 ** (round_number % max(1, (n - 1).bit_length())),))


def star(n: int, center: int = 0) -> Iterator[Pair]:
    """One node to all others, and back.

    Examples
    --------
    >>> list(star(3))
    [(0, 1), (1, 0), (0, 2), (2, 0)]
    """
    n = _size("n", n, 1)
    center = _size("center", center, 0)
    if center >= n:
        raise ValueError(f"center must be a node index below n={n}; got {center}. Choose 0 … {n - 1}.")
    return _both_ways((center, v) for v in range(n) if v != center)


def torus(rows: int, cols: int) -> Iterator[Pair]:
    """A grid with glued borders: each node to its four neighbours (fewer where a side is shorter than 3).

    Examples
    --------
    >>> sorted(v for u, v in torus(3, 3) if u == 4)
    [1, 3, 5, 7]
    """
    rows, cols = _size("rows", rows, 1), _size("cols", cols, 1)
    for node in range(rows * cols):
        r, c = divmod(node, cols)
        around = (((r - 1) % rows, c), ((r + 1) % rows, c), (r, (c - 1) % cols), (r, (c + 1) % cols))
        yield from ((node, v) for v in dict.fromkeys(a * cols + b for a, b in around) if v != node)


def dumbbell(n: int, bridges: int = 1) -> Iterator[Pair]:
    """Two complete halves joined by a few edges: the bottleneck on which gossip is hardest to make robust.

    Bridge j joins node j of the first half (``n // 2`` nodes) to node j of the second.

    Examples
    --------
    >>> [(u, v) for u, v in dumbbell(6) if u < 3 <= v]
    [(0, 3)]
    """
    n = _size("n", n, 2)
    half = n // 2
    bridges = _size("bridges", bridges, 1)
    if bridges > half:
        raise ValueError(
            f"dumbbell(n={n}) has room for {half} bridges; got {bridges}. Lower bridges or raise n."
        )
    cliques = (*combinations(range(half), 2), *combinations(range(half, n), 2))
    return _both_ways((*cliques, *((j, half + j) for j in range(bridges))))


def erdos_renyi(n: int, p: float, *, seed: int, directed: bool = False) -> Iterator[Pair]:
    """Each pair with probability p, independently.

    Examples
    --------
    >>> sorted(erdos_renyi(4, 1.0, seed=0)) == sorted(complete(4))
    True
    """
    n = _size("n", n, 1)
    real("p", p)
    nonnegative("seed", seed)
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability, 0 <= p <= 1; got {p}. Choose a value in that range.")
    pairs = list(permutations(range(n), 2) if directed else combinations(range(n), 2))
    kept = np.random.default_rng(seed).random(len(pairs)) < p
    chosen = (pair for pair, keep in zip(pairs, kept, strict=True) if keep)
    return chosen if directed else _both_ways(chosen)


def k_regular(n: int, k: int, *, seed: int) -> Iterator[Pair]:
    """A random graph in which every node has exactly k neighbours.

    Examples
    --------
    >>> sum(1 for u, v in k_regular(6, 3, seed=0) if u == 0)
    3
    """
    n = _size("n", n, 1)
    k = _size("k", k, 0)
    nonnegative("seed", seed)
    if k >= n or (n * k) % 2:
        raise ValueError(
            f"A k-regular graph needs k < n and n * k even; got k={k}, n={n}. Change k or n by one."
        )
    import networkx

    graph = networkx.random_regular_graph(k, n, seed=int(seed))
    return _both_ways(sorted(graph.edges()))


def random_out(n: int, s: int, *, seed: int, round_number: int = 0) -> Iterator[Pair]:
    """Each node to s others drawn at random, anew for every round number.

    Examples
    --------
    >>> [sum(1 for u, _ in random_out(5, 2, seed=0) if u == i) for i in range(5)]
    [2, 2, 2, 2, 2]
    """
    n = _size("n", n, 1)
    s = _size("s", s, 0)
    nonnegative("seed", seed)
    if s >= n:
        raise ValueError(f"s peers must be fewer than n nodes; got s={s}, n={n}. Lower s to at most {n - 1}.")
    for node in range(n):
        draw = np.random.default_rng((seed, round_number, node)).choice(n - 1, size=s, replace=False)
        yield from ((node, int(v) + (v >= node)) for v in np.sort(draw))
