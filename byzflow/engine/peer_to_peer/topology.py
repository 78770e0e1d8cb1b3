"""Who may send to whom: a directed graph over node indices, honest nodes first, then Byzantine ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from byzflow.engine.peer_to_peer import graphs
from byzflow.engine.peer_to_peer.connectivity import Connectivity, components, reachable
from byzflow.operators.checks import index, nonnegative, several

__all__ = ("Edge", "Topology")


@dataclass(frozen=True)
class Edge:
    """A directed edge: node `u` sends to node `v`.

    Examples
    --------
    >>> u, v = Edge(0, 1)
    >>> u, v
    (0, 1)
    """

    u: int
    v: int

    def __iter__(self) -> Iterator[int]:
        yield self.u
        yield self.v


class Topology:
    """A directed communication graph over the nodes ``0 … n_nodes - 1``.

    Parameters
    ----------
    n_nodes : int
        Number of nodes.
    edges : iterable of Edge or pair of int
        ``(u, v)`` lets u send to v. Self-loops and repeated edges are kept in `out` and `in_`;
        `out_neighbors` and `in_neighbors` leave them away.

    Attributes
    ----------
    n : int
        Number of nodes.
    out, in_ : dict of int to list of int
        Receivers and senders of every node, in the order of `edges`.

    Raises
    ------
    KeyError
        If an edge ends outside ``0 … n_nodes - 1``.
    TypeError
        If a number of nodes or an edge's end is not a whole number.

    Examples
    --------
    >>> ring = Topology.ring(5)
    >>> ring.in_neighbors(0)
    (1, 4)
    >>> print(ring.connectivity())
    strongly connected: each of the 5 nodes reaches every other
    """

    def __init__(self, n_nodes: int, edges: Iterable[Edge | tuple[int, int]]) -> None:
        nonnegative("n_nodes", n_nodes)
        self.n = int(n_nodes)
        self.out: dict[int, list[int]] = {i: [] for i in range(self.n)}
        self.in_: dict[int, list[int]] = {i: [] for i in range(self.n)}
        for u, v in map(_ends, several("edges", edges)):
            if u not in self.out or v not in self.out:
                raise KeyError(
                    f"Edge ends must be node indices 0 … {n_nodes - 1}; got ({u}, {v}). "
                    "Raise n_nodes or correct the edge."
                )
            self.out[u].append(v)
            self.in_[v].append(u)

    def __repr__(self) -> str:
        return f"Topology(n={self.n}, edges={sum(map(len, self.out.values()))})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Topology):
            return NotImplemented
        return self.n == other.n and self._senders == other._senders

    __hash__ = object.__hash__

    @cached_property
    def _receivers(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(sorted({v for v in self.out[i] if v != i})) for i in range(self.n))

    @cached_property
    def _senders(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(sorted({u for u in self.in_[i] if u != i})) for i in range(self.n))

    def out_neighbors(self, node: int) -> tuple[int, ...]:
        """Different nodes that `node` sends to, ascending."""
        return self._receivers[self._inside(node)]

    def in_neighbors(self, node: int) -> tuple[int, ...]:
        """Different nodes that send to `node`, ascending."""
        return self._senders[self._inside(node)]

    def _inside(self, node: int) -> int:
        if type(node) is int and 0 <= node < self.n:  # as nearly always: rounds ask for each node
            return node
        if not 0 <= index("node", node) < self.n:
            raise ValueError(f"node must be an index 0 … {self.n - 1}; got {node}. Topologies count from 0.")
        return node

    def edges(self) -> tuple[Edge, ...]:
        """All edges without self-loops and repetitions, by sender, then receiver."""
        return tuple(Edge(u, v) for u in range(self.n) for v in self._receivers[u])

    @property
    def is_symmetric(self) -> bool:
        """Whether every edge has its way back."""
        return self._receivers == self._senders

    def connectivity(self, nodes: Sequence[int] | None = None, *, who: str = "node") -> Connectivity:
        """How `nodes` (default: all) hang together along edges among themselves.

        Pass the honest nodes to see whether they can agree without a Byzantine node in between.

        Examples
        --------
        >>> star = Topology.star(4, center=3)
        >>> star.connectivity(range(3), who="honest node").kind
        'none'
        """
        kept = tuple(range(self.n)) if nodes is None else tuple(map(self._inside, several("nodes", nodes)))
        inside = set(kept)

        def forward(i: int) -> set[int]:
            return inside.intersection(self._receivers[i])

        def backward(i: int) -> set[int]:
            return inside.intersection(self._senders[i])

        strong = not kept or reachable(kept[0], forward) == reachable(kept[0], backward) == inside
        parts = (tuple(sorted(kept)),) if strong else components(kept, lambda i: forward(i) | backward(i))
        return Connectivity(kept, parts if kept else (), strong, who)

    @classmethod
    def complete(cls, n: int) -> Self:
        """Everyone sends to everyone else."""
        return cls(n, graphs.complete(n))

    @classmethod
    def ring(cls, n: int, k: int = 1) -> Self:
        """Each node sends to its k nearest on either side, once each in small rings too."""
        return cls(n, graphs.ring(n, k))

    @classmethod
    def torus(cls, rows: int, cols: int) -> Self:
        """A ``rows × cols`` grid with glued borders; node ``r * cols + c`` stands at (r, c)."""
        edges = tuple(graphs.torus(rows, cols))
        return cls(rows * cols, edges)

    @classmethod
    def erdos_renyi(cls, n: int, p: float, *, seed: int, directed: bool = False) -> Self:
        """Each pair of nodes is joined with probability p; look at `connectivity` before you train on it."""
        return cls(n, graphs.erdos_renyi(n, p, seed=seed, directed=directed))

    @classmethod
    def k_regular(cls, n: int, k: int, *, seed: int) -> Self:
        """A random graph in which every node has exactly k neighbours."""
        return cls(n, graphs.k_regular(n, k, seed=seed))

    @classmethod
    def exponential(cls, n: int) -> Self:
        """Directed: node i sends to i + 1, i + 2, i + 4, … modulo n [1]_.

        References
        ----------
        .. [1] Ying et al., "Exponential graph is provably efficient for decentralized deep training",
           NeurIPS 2021.
        """
        return cls(n, graphs.exponential(n))

    @classmethod
    def star(cls, n: int, *, center: int = 0) -> Self:
        """One node in the middle, everyone else at its own ray."""
        return cls(n, graphs.star(n, center))

    @classmethod
    def dumbbell(cls, n: int, *, bridges: int = 1) -> Self:
        """Two complete halves joined by a few edges."""
        return cls(n, graphs.dumbbell(n, bridges))

    @classmethod
    def from_networkx(cls, graph: Any) -> Self:
        """Take over a networkx graph whose nodes are ``0 … n - 1``; undirected edges go both ways.

        Examples
        --------
        >>> import networkx
        >>> Topology.from_networkx(networkx.path_graph(3)).in_neighbors(1)
        (0, 2)
        """
        if not hasattr(graph, "number_of_nodes"):
            raise TypeError(
                f"from_networkx needs a networkx graph; got {type(graph).__name__}. Pass one, or build a "
                "Topology(n, edges)."
            )
        n = graph.number_of_nodes()
        if set(graph.nodes) != set(range(n)):
            raise ValueError(
                f"from_networkx needs the node labels 0 … {n - 1}; got {list(graph.nodes)[:6]}. "
                "Relabel with networkx.convert_node_labels_to_integers(graph)."
            )
        directed = graph if graph.is_directed() else graph.to_directed()
        return cls(n, ((u, v) for u, v, *_ in directed.edges))


def _ends(edge: Any) -> tuple[int, int]:
    ends = tuple(edge) if isinstance(edge, Iterable) and not isinstance(edge, str) else ()
    if len(ends) != 2:
        raise ValueError(f"An edge must be a pair of node indices; got {edge!r}. Pass (u, v): u sends to v.")
    return index("edge ends", ends[0]), index("edge ends", ends[1])
