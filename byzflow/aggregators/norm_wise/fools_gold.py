"""FoolsGold: distrust nodes whose histories point the same way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from typing import ClassVar, Self

import array_api_compat
import numpy as np

from byzflow.aggregators.base import StatefulAggregator
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.checks import carried, nonnegative, positive_real, several
from byzflow.operators.geometry import Geometry
from byzflow.operators.inputs import as_sequence
from byzflow.operators.lazy import as_lazy, lazy_below, lazy_rows
from byzflow.operators.linear import LinearOperator

__all__ = ("FoolsGold", "history_weights")


_ALIKE = 2.0**-22
"""How far below 1 a cosine may be by rounding alone where rows are float32: such nodes do not differ.

It is more where the rows were multiplied about an origin that is farther than they are long.
"""


def history_weights(
    products: np.ndarray, confidence: float, present: np.ndarray, origin: float = 0.0
) -> np.ndarray:
    """Return FoolsGold's weight of each node, (n,) in [0, 1].

    Parameters
    ----------
    products : ndarray, (n, n)
        Inner products of the nodes' summed vectors.
    confidence : float
        Slope of the logit, kappa.
    present : ndarray of bool, (n,)
        Nodes with a vector in this round: the others have weight 0 and are not what the largest is taken of.
    origin : float, default 0.0
        How far from zero, squared, the products were taken: they are rounded as is what they were taken of.

    Examples
    --------
    >>> products = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> history_weights(products, 1.0, np.ones(3, bool))
    array([0., 0., 1.])
    """
    n = len(products)
    lengths = np.sqrt(np.maximum(products.diagonal(), 0.0))
    scale = np.where(lengths > 0.0, lengths, np.inf)
    cosines = products / scale[:, None] / scale
    loss = (1.0 + np.sqrt(origin) / scale) ** 2
    cosines[1.0 - cosines <= _ALIKE * np.maximum(loss[:, None], loss)] = 1.0
    np.fill_diagonal(cosines, 0.0)
    most = np.maximum(cosines.max(axis=1), 0.0)
    # Pardon: a node that resembles one which resembles others more is probably an honest bystander.
    ratio = most[:, None] / np.where(most > 0.0, most, 1.0)
    cosines *= np.where(most > most[:, None], ratio, 1.0)
    weights = np.clip(1.0 - cosines.max(axis=1), 0.0, 1.0) * present
    top = weights.max()
    if top == 0.0:
        return np.zeros(n)
    weights = np.minimum(weights / top, 1.0 - 1e-12)
    logit = confidence * (np.log(np.maximum(weights, 1e-300) / (1.0 - weights)) + 0.5)
    clipped: np.ndarray = np.clip(logit, 0.0, 1.0)
    return clipped


@frozen
class _Step(LinearOperator):
    """From the vectors of n nodes but the absent ones, and n histories after them, to 1 + n rows.

    These are the aggregate and the histories with the vectors added. A first round has no histories yet.
    """

    confidence: float
    histories: int
    absent: tuple[int, ...]
    single: ClassVar[bool] = False
    name: ClassVar[str] = "foolsgold"

    @property
    def extra(self) -> int:  # type: ignore[override]  # as many histories as vectors
        return self.histories

    @property
    def anchors(self) -> tuple[str, ...]:
        return ("zero",)

    def weights(self, geometry: Geometry) -> np.ndarray:
        k = geometry.n - self.histories
        n = k + len(self.absent)
        here = np.setdiff1d(np.arange(n), self.absent)
        present = np.zeros(n, bool)
        present[here] = geometry.finite[:k]
        added = np.diag(present.astype(np.float64))[:, here]
        sums = np.hstack((added, np.eye(n)[:, : self.histories]))
        mixed = geometry.mix(sums)
        zero = mixed.column("zero")
        trust = history_weights(mixed.products, self.confidence, present, mixed.gram[zero, zero])
        first = np.zeros(geometry.n)
        first[:k] = trust[here] / max(trust.sum(), 1e-300)
        return np.vstack((first, sums))


@frozen
class FoolsGold(StatefulAggregator):
    """Average the rows, weighted down by how alike the nodes' histories are.

    Every node's vectors are summed over the rounds; with the cosines ``c_ij`` of the sums and
    ``v_i = max_j c_ij`` (``c_ii = 0``), ``c_ij`` is multiplied by ``v_i / v_j`` where ``v_j > v_i``; then
    ``a_i = 1 - max_j c_ij``, scaled so that the largest is 1, and
    ``w_i = clip(confidence (ln(a_i / (1 - a_i)) + 1/2), 0, 1)``. The result is the mean with the weights
    ``w_i``, or zero if nobody is trusted. Made against sybils, which send alike; honest nodes must differ.

    Parameters
    ----------
    confidence : float, default 1.0
        Slope of the logit, the paper's kappa.
    absent : sequence of int, default ()
        Nodes without a vector in this round, of the n nodes of the run: their histories still tell what
        resembles them. A server fills it in for the nodes that it leaves out.

    Raises
    ------
    ValueError
        If `confidence` is not positive, or the state is that of another rule or number of nodes.

    Notes
    -----
    State: ``{"history": (n, ...)}``, the sums. Gram-space over the n vectors and n sums: one pass, O(n**2 d),
    and one that writes n + 1 rows, O(n**2 d). Memory O(n d) for the state. A vector that is not finite has
    weight 0 and does not enter the history. The paper adds the weighted vectors up; their mean is returned
    here, so that the step does not grow with n. All coordinates count as features. A cosine that may be
    below 1 by rounding in float32 alone, 2**-22 and more of short histories among long ones, counts as 1:
    where every node has one, nobody is trusted.

    References
    ----------
    .. [1] Fung, Yoon, Beschastnikh, "The limitations of federated learning in sybil settings", RAID 2020
       (first: "Mitigating sybils in federated learning poisoning", arXiv 1808.04866, 2018).

    Examples
    --------
    >>> rows = [np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([0.0, 1.0])]
    >>> aggregate, state = FoolsGold().step(rows, None)
    >>> aggregate
    array([1., 0.])
    >>> FoolsGold().step(rows, state)[1]["history"][0]
    array([2., 0.])
    """

    confidence: float = field(default=1.0, kw_only=True)
    absent: Sequence[int] = field(default=(), kw_only=True)
    name: ClassVar[str] = "foolsgold"
    by_node: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive_real("confidence", self.confidence)
        absent = several("absent", self.absent)
        for node in absent:
            nonnegative("absent", node)
        object.__setattr__(self, "absent", tuple(sorted(set(absent))))

    def without(self, nodes: Collection[int]) -> Self:
        """Return the rule for rounds in which these nodes are absent."""
        return replace(self, absent=tuple(nodes))

    def step(
        self, gradients: Sequence[Array], state: Mapping[str, Array] | None
    ) -> tuple[Array, Mapping[str, Array]]:
        """Return the aggregate and the histories with this round's vectors added.

        Raises
        ------
        ValueError
            If the state is of another number of nodes.
        """
        return FoolsGold.weighted_step(self, gradients, state)[:2]

    def weighted_step(
        self, gradients: Sequence[Array], state: Mapping[str, Array] | None
    ) -> tuple[Array, Mapping[str, Array], Sequence[float] | None]:
        """Do as `step`, and return the weights of the vectors too."""
        history = () if state is None else carried("FoolsGold", state, "history")[0]
        op = _Step(self.confidence, len(history), tuple(self.absent))
        n = len(as_sequence(gradients, "FoolsGold")) + len(op.absent)
        if state is not None and len(history) != n:
            raise ValueError(
                f"FoolsGold needs as many histories as vectors; got {len(history)} for n={n}. "
                f"Start with state=None when the nodes change."
            )
        if op.absent and op.absent[-1] >= n:
            raise ValueError(
                f"FoolsGold needs absent nodes to be some of the n={n}; got absent={op.absent}. "
                f"Name nodes below {n}."
            )
        if (lazy := as_lazy(gradients)) is not None:
            answer = lazy_rows(op, lazy if state is None else lazy_below(lazy, history))
            return answer[0], {"history": answer[1:]}, None
        template, answer, plan = op.run_block(gradients, extra=tuple(history))
        # Who keeps the aggregate of a round is not to keep the histories with it.
        first = array_api_compat.array_namespace(answer).asarray(answer[0, :], copy=True)
        weights = plan.whole[0, : n - len(op.absent)].tolist()
        return template.restore(first), {"history": template.restore_matrix(answer[1:, :])}, weights
