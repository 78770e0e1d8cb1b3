"""What weighted gossip rules share: the node's own row comes first, and every row has a mixing weight."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import field
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from byzflow.aggregators.base import LinearAggregator
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.weights import Scheme, local_weights, own_first
from byzflow.exceptions import ToleranceError
from byzflow.operators.base import frozen
from byzflow.operators.checks import real, several
from byzflow.operators.geometry import Geometry

__all__ = ("GossipRule", "kept_by_weight", "own_distances", "require_own")

FloatArray = NDArray[np.float64]


@frozen
class GossipRule(LinearAggregator):
    """A rule over the rows [own, neighbours in node order] with mixing weights; a subclass writes `gossip`.

    Parameters
    ----------
    mixing : tuple of float, optional
        Weight of every row: positive for the own one, not negative for the others, summing to 1. None gives
        all rows the same weight, which equals Metropolis-Hastings on a regular topology. `at` fills it in.

    Notes
    -----
    A neighbour whose vector is not finite has weight 0.
    """

    mixing: tuple[float, ...] | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "gossip"

    def __post_init__(self) -> None:
        if self.mixing is None:
            return
        for weight in several("mixing", self.mixing, "Take rule.at(topology, node) instead."):
            real("mixing", weight, least=0.0)
        total = sum(self.mixing)
        if abs(total - 1) > 1e-6 or not self.mixing[0] > 0:
            raise ValueError(
                f"mixing must sum to 1 with a positive own weight; got the sum {total:g} and "
                f"{self.mixing[:1]}. Take local_weights(topology, node)."
            )

    @abstractmethod
    def gossip(self, geometry: Geometry, w: FloatArray) -> FloatArray:
        """Return the weights of all rows, (n,); `w` (n,) are the mixing weights. The own row is finite."""

    def at(self, topology: Topology, node: int, scheme: Scheme = "metropolis") -> Self:
        """Return this rule with the mixing weights of one node of a topology.

        Examples
        --------
        >>> from byzflow.engine.peer_to_peer.gossip import PlainGossip
        >>> PlainGossip().at(Topology.star(4), 1).mixing
        (0.75, 0.25)
        """
        return dataclasses.replace(self, mixing=tuple(local_weights(topology, node, scheme).tolist()))

    def without(self, nodes: Collection[int]) -> Self:
        """Return the rule for the rows that are left; the own one, the first, takes their weights."""
        if self.mixing is None or 0 in nodes:
            return self
        kept = [weight for place, weight in enumerate(self.mixing) if place and place not in nodes]
        return dataclasses.replace(self, mixing=own_first(kept))

    def check(self, n: int) -> None:
        """Raise `ToleranceError` unless there is one mixing weight for each row."""
        if self.mixing is not None and len(self.mixing) != n:
            raise ToleranceError(
                f"{type(self).__name__} has mixing weights for {len(self.mixing)} rows; got n={n}. "
                "Bind it to what arrives with rule.at(topology, node), or leave mixing away."
            )

    def weights(self, geometry: Geometry) -> FloatArray:
        """Return the weight of every row."""
        n = geometry.n
        require_own(geometry, type(self).__name__)
        return self.gossip(geometry, np.full(n, 1 / n) if self.mixing is None else np.asarray(self.mixing))


def require_own(geometry: Geometry, rule: str) -> None:
    """Raise `ToleranceError` if the first row, the node's own vector, is not finite."""
    if not geometry.finite[0]:
        raise ToleranceError(
            f"{rule} needs a finite own vector, the first row; got one with NaN, inf or "
            "numbers too large to square. "
            "This node has diverged: lower its learning rate or reset its model."
        )


def own_distances(geometry: Geometry) -> FloatArray:
    """Squared distances of all rows to the own one, (n,): +inf for rows that are not finite."""
    own = np.zeros(len(geometry.gram))
    own[0] = 1.0
    squares = geometry.sq_distances_to(own)
    squares[0] = 0.0
    return squares


def kept_by_weight(geometry: Geometry, squares: FloatArray, w: FloatArray, delta: float) -> Sequence[int]:
    """Neighbours that stay when the farthest are removed until `delta` of the weight is gone.

    The honest neighbours have all but at most `delta` of the neighbours' weight, so what stays weighs no
    more than they do and lies at least as near. Ties remove the higher index first.
    """
    order = [int(j) for j in geometry.rank(squares) if j != 0]
    gone = 0.0
    while order and (gone < delta - 1e-12 or not geometry.finite[order[-1]]):
        gone += w[order.pop()]
    return order
