"""What a node adds to itself to train peer to peer: half steps, sending, mixing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from byzflow.engine.fitting import is_by_node
from byzflow.engine.identity import described
from byzflow.engine.node.mixing import Neighborhood, mixed, weighted
from byzflow.engine.node.streams import seeded
from byzflow.operators.checks import acts

__all__ = ("P2PByzantineMixin", "P2PHonestMixin")


class P2PHonestMixin:
    """Plain SGD half steps, and mixing with the neighbours by the node's own rule.

    The class it is mixed into has ``model``, ``device``, ``criterion``, ``next_batch()``, ``p2p_agg`` and,
    if wanted, ``p2p_pre``.

    Examples
    --------
    >>> class Peer(P2PHonestMixin):
    ...     def __init__(self):
    ...         self.model, self.device, self.criterion = nn.Linear(1, 1, bias=False), "cpu", nn.MSELoss()
    ...     def next_batch(self):
    ...         return torch.ones(1, 1), torch.zeros(1, 1)
    >>> peer = Peer()
    >>> peer.set_param_vector(torch.tensor([1.0]))
    >>> peer.p2p_half_step(lr=0.25)
    tensor([0.5000])
    """

    model: nn.Module
    device: Any
    criterion: Any
    p2p_agg: Any
    p2p_pre: Any = None
    p2p_seed: int | None = None
    p2p_state: Any = None
    """What a rule with a state, as `StatefulCenteredClipping`, carries to the next round."""
    p2p_neighborhood: Neighborhood | None = None

    def get_param_vector(self) -> torch.Tensor:
        """Return a copy of all parameters in ``model.parameters()`` order, shape ``(d,)``."""
        return nn.utils.parameters_to_vector(self.model.parameters()).detach().clone()

    def set_param_vector(self, vec: torch.Tensor) -> None:
        """Write all parameters from a vector of shape ``(d,)``.

        Raises
        ------
        ValueError
            If it has not one entry for each; then no parameter changes.
        """
        parameters = list(self.model.parameters())
        flat = torch.as_tensor(vec).to(parameters[0].device)
        sizes = [parameter.numel() for parameter in parameters]
        if flat.numel() != sum(sizes):
            raise ValueError(
                f"set_param_vector needs a vector of shape ({sum(sizes)},); got {tuple(flat.shape)}. "
                "Pass what get_param_vector of the same model returns."
            )
        with torch.no_grad():
            for parameter, part in zip(parameters, torch.split(flat.reshape(-1), sizes), strict=True):
                parameter.copy_(part.view_as(parameter))

    def p2p_half_step(self, lr: float) -> torch.Tensor:
        """Take one SGD step on the next batch and return the parameters, shape ``(d,)``."""
        x, y = self.next_batch()  # type: ignore[attr-defined]  # the class this is mixed into has it
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        loss = self.criterion(self.model(x.to(self.device)), y.to(self.device))
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(gradient, alpha=lr)
        return self.get_param_vector()

    def p2p_aggregate_and_set(self, self_theta_half: Any, neighbor_vectors: Sequence[Any]) -> None:
        """Mix the own half step with the neighbours' by ``p2p_pre`` and ``p2p_agg``, and keep the result.

        If neighbours are missing, the rules are fitted to that as those of a server are: they run as given if
        they can, else with ``f`` lowered by the number of the missing, and options that count rows still mean
        the same ones. A rule with a state goes on from that of the last round; what it has for each node
        stays with that node, whoever else sends.
        """
        acts("p2p_agg", self.p2p_agg, "aggregate", "Give the node the rule that it mixes by.")
        rows = [self_theta_half, *neighbor_vectors]
        hood, self.p2p_neighborhood = self.p2p_neighborhood, None
        theta, self.p2p_state = mixed(
            rows,
            self.p2p_pre,
            self.p2p_agg,
            neighborhood=hood,
            state=self.p2p_state,
            finish=lambda part: seeded(part, self.p2p_seed, 0, len(rows), "rule"),
        )
        self.set_param_vector(theta)

    def p2p_rules(self) -> str:
        """Return in words what the node mixes by, so that a checkpoint of other rules is not taken up.

        Examples
        --------
        >>> from byzflow.engine.peer_to_peer.gossip import NearestNeighborAveraging
        >>> class Peer(P2PHonestMixin):
        ...     p2p_agg = NearestNeighborAveraging(f=1)
        >>> Peer().p2p_rules()
        '(None, NearestNeighborAveraging(f=1))'
        """
        return described((self.p2p_pre, getattr(self, "p2p_agg", None)))

    def p2p_set_neighbors(self, node: int, neighbors: Sequence[int], missing: Sequence[int]) -> bool:
        """Take whose rows this round's are: the own index, the in-neighbours, and those that sent nothing.

        Returns
        -------
        bool
            Whether it has to be told in rounds in which nobody is missing, too.
        """
        self.p2p_neighborhood = Neighborhood(node, tuple(neighbors), tuple(missing))
        return is_by_node(self.p2p_agg)

    def p2p_set_mixing(self, weights: Sequence[float]) -> None:
        """Take this round's weights of the own row and the neighbours', for a rule that has any."""
        self.p2p_agg = weighted(self.p2p_agg, weights)

    def p2p_set_seed(self, seed: int) -> None:
        """Take the seed of this round, for rules that draw at random and have none of their own."""
        self.p2p_seed = seed


class P2PByzantineMixin:
    """Broadcasts what the node's ``attack`` makes of the vectors its neighbours sent.

    Examples
    --------
    >>> class Echo:
    ...     def apply(self, *, honest_grads, **unused):
    ...         return -honest_grads[0]
    >>> class Peer(P2PByzantineMixin):
    ...     device, attack = "cpu", Echo()
    >>> Peer().p2p_broadcast_vector(neighbor_vectors=[torch.ones(2)], like=torch.zeros(2))
    tensor([-1., -1.])
    """

    device: Any
    attack: Any
    p2p_state: Any = None
    """What an attack with a memory, as `MimicLearnedAttack`, carries to the next round."""

    def p2p_broadcast_vector(self, neighbor_vectors: Sequence[Any] | None = None, like: Any = None) -> Any:
        """Return the malicious vector, in the form of `like`; without neighbours, of the template itself."""
        shown = list(neighbor_vectors or ([] if like is None else [like]))
        if callable(getattr(self.attack, "step", None)):
            vector, self.p2p_state = self.attack.step(self.p2p_state, honest_grads=shown)
        else:
            vector = self.attack.apply(honest_grads=shown)
        if isinstance(like, torch.Tensor):
            return torch.as_tensor(vector).to(device=like.device, dtype=like.dtype)
        return vector
