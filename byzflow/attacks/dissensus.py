"""Dissensus: push every victim away from what its honest neighbours agree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from byzflow.attacks.base import LinearAttack
from byzflow.kernels.rows import Array
from byzflow.operators.base import frozen
from byzflow.operators.checks import finite, positive
from byzflow.operators.geometry import Geometry
from byzflow.operators.inputs import as_sequence

__all__ = ("DissensusAttack",)


@frozen
class DissensusAttack(LinearAttack):
    """Send a victim what cancels the pull of its honest neighbours and adds as much the other way.

    ``x_b = x_i - (epsilon / f) sum_j (x_j - x_i)`` over the honest neighbours j of victim i [1]_, with equal
    mixing weights. Under plain gossip f such vectors turn the step towards the neighbours into one of length
    ``1 - epsilon``: 1 freezes the victim, more drives it away. Each victim gets its own vector.

    Parameters
    ----------
    f : int
        Byzantine neighbours of the victim, who send this together; at least 1.
    epsilon : float, default 1.0
        Strength; finite.

    Raises
    ------
    ValueError
        If f is not positive, `epsilon` not finite, or one of the two inputs missing.

    Notes
    -----
    Linear: one pass over the victim's vector and its neighbours', O(n d). Neighbours that are not finite are
    left out.

    References
    ----------
    .. [1] He, Karimireddy, Jaggi, "Byzantine-robust decentralized learning via ClippedGossip",
       arXiv 2202.01545, 2022.

    Examples
    --------
    >>> neighbors = [np.array([1.0, 0.0]), np.array([3.0, 2.0])]
    >>> DissensusAttack(f=1).apply(base_grad=np.zeros(2), honest_grads=neighbors)
    array([-4., -2.])
    """

    f: int
    epsilon: float = 1.0
    uses_base_grad: ClassVar[bool] = True
    uses_honest_grads: ClassVar[bool] = True
    by_phases: ClassVar[bool] = True  # its apply() reads two inputs, and does no more
    uses: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        positive("f", self.f)
        finite("epsilon", self.epsilon)

    def weights(self, geometry: Geometry) -> np.ndarray:
        """Return the weights of the victim's row and its neighbours'."""
        honest = geometry.finite.astype(np.float64)
        honest[0] = 0.0
        W = -(self.epsilon / self.f) * honest
        W[0] = 1.0 - W.sum()
        return W

    def vectors(self, inputs: Mapping[str, Any]) -> Sequence[Array]:
        """Return the victim's vector (``"base_grad"``) and its honest neighbours' (``"honest_grads"``)."""
        missing = [key for key in self.needs() if inputs.get(key) is None]
        if missing:
            raise KeyError(f"DissensusAttack needs the inputs {self.needs()}; {missing} missing. Wire them.")
        return [inputs["base_grad"], *as_sequence(inputs["honest_grads"], "DissensusAttack")]

    def apply(
        self,
        *,
        model: Any = None,
        x: Array | None = None,
        y: Array | None = None,
        honest_grads: Sequence[Array] | None = None,
        base_grad: Array | None = None,
    ) -> Array:
        """Return the vector for one victim (`base_grad`) with its neighbours (`honest_grads`)."""
        if base_grad is None or honest_grads is None:
            raise ValueError(
                "DissensusAttack needs base_grad (the victim's vector) and honest_grads (its neighbours'); "
                f"got {'no base_grad' if base_grad is None else 'no honest_grads'}. Pass both."
            )
        return self.run_rows([base_grad, *as_sequence(honest_grads, "DissensusAttack")])[0]
