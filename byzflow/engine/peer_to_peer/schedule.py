"""Topologies that change from round to round: one callable ``round number -> Topology`` behind every form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from byzflow.engine.peer_to_peer import graphs
from byzflow.engine.peer_to_peer.topology import Topology

__all__ = ("TopologySchedule", "epidemic", "one_peer_exponential", "random_pull")

TopologyLike = Topology | Sequence[Topology] | Callable[[int], Topology]


@dataclass(frozen=True)
class TopologySchedule:
    """The topology of every round, from a fixed one, a sequence that is repeated, or a callable.

    Parameters
    ----------
    source : Topology, sequence of Topology, or callable
        A callable gets the round number (from 0) and must give the same topology when asked again.
    n : int
        Number of nodes that every topology must have.

    Raises
    ------
    ValueError
        If a topology has another number of nodes, or the sequence is empty.
    TypeError
        If something else than a topology comes.

    Examples
    --------
    >>> schedule = TopologySchedule([Topology.ring(4), Topology.complete(4)], n=4)
    >>> [len(schedule.at(t).in_neighbors(0)) for t in range(3)]
    [2, 3, 2]
    """

    source: TopologyLike
    n: int

    def __post_init__(self) -> None:
        if isinstance(self.source, Sequence):
            if not self.source:
                raise ValueError("A sequence of topologies needs at least one; got none. Pass one topology.")
            for topology in self.source:
                self._checked(topology)
        elif isinstance(self.source, Topology) or not callable(self.source):
            self._checked(self.source)

    def at(self, round_number: int) -> Topology:
        """Return the topology of a round, counted from 0."""
        if isinstance(self.source, Topology):
            return self.source
        if isinstance(self.source, Sequence):
            return self.source[round_number % len(self.source)]
        return self._checked(self.source(round_number))

    def over(self, rounds: int) -> Topology:
        """Return the union of the first `rounds` topologies: what can be heard at all in that time."""
        return Topology(self.n, dict.fromkeys(edge for t in range(rounds) for edge in self.at(t).edges()))

    def _checked(self, topology: object) -> Topology:
        if not isinstance(topology, Topology):
            raise TypeError(
                "topology must be a Topology, a sequence of them, or a callable from round number to "
                f"Topology; got {type(topology).__name__}. Build one with Topology.ring(n), …"
            )
        if topology.n != self.n:
            raise ValueError(
                f"topology must have one node per training node, {self.n} (honest first, then Byzantine); "
                f"got topology.n={topology.n}. Build it with n={self.n}."
            )
        return topology


def one_peer_exponential(n: int) -> Callable[[int], Topology]:
    """Each round, node i sends to one peer, 2**t places on; all have mixed after ⌈log₂ n⌉ rounds.

    Examples
    --------
    >>> peers = one_peer_exponential(8)
    >>> [peers(t).out_neighbors(0) for t in range(3)]
    [(1,), (2,), (4,)]
    """
    return _tried(lambda round_number: Topology(n, graphs.one_peer(n, round_number)))


def epidemic(n: int, s: int, *, seed: int) -> Callable[[int], Topology]:
    """Each round, every node *pushes* to s peers drawn at random [1]_.

    A Byzantine node can reach as many victims as it wants this way; `random_pull` takes that choice from it.

    References
    ----------
    .. [1] de Vos et al., "Epidemic learning: boosting decentralized learning with randomized communication",
       NeurIPS 2023.

    Examples
    --------
    >>> [len(epidemic(6, 2, seed=0)(t).out_neighbors(3)) for t in range(3)]
    [2, 2, 2]
    """
    return _tried(
        lambda round_number: Topology(n, graphs.random_out(n, s, seed=seed, round_number=round_number))
    )


def random_pull(n: int, s: int, *, seed: int) -> Callable[[int], Topology]:
    """Each round, every node *pulls* from s peers drawn at random [1]_.

    References
    ----------
    .. [1] El Mrini et al., "Robust pull-based epidemic learning", arXiv 2510.08311, 2025.

    Examples
    --------
    >>> [len(random_pull(6, 2, seed=0)(t).in_neighbors(3)) for t in range(3)]
    [2, 2, 2]
    """

    def at(round_number: int) -> Topology:
        pulls = graphs.random_out(n, s, seed=seed, round_number=round_number)
        return Topology(n, ((v, u) for u, v in pulls))

    return _tried(at)


def _tried(at: Callable[[int], Topology]) -> Callable[[int], Topology]:
    at(0)  # refuses wrong sizes where they are given, not in a first round
    return at
