"""A ready-made Byzantine node: any attack, and what its flags ask for."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from byzflow.attacks.adaptive import AdaptiveAttack
from byzflow.engine.node.base import ByzantineNode
from byzflow.engine.node.mixin import P2PByzantineMixin
from byzflow.engine.node.streams import seeded, torch_seed
from byzflow.engine.node.torch_honest import TorchHonestNode
from byzflow.kernels.threads import one_thread
from byzflow.operators.checks import acts

__all__ = ("TorchByzantineNode",)


class TorchByzantineNode(P2PByzantineMixin, ByzantineNode):
    """A node that sends what an attack makes of what it knows.

    It supplies what the attack's flags ask for: the honest vectors it is shown, its own honest gradient, its
    model and a batch. Its model follows the server only if the server updates Byzantine nodes.

    Parameters
    ----------
    attack : Attack
        What it does. An attack with a ``seed`` that is None gets one for each round from this node's streams.
    model, data, **options
        As for `TorchHonestNode`; needed if the attack uses an own gradient or a model and a batch.

    Examples
    --------
    >>> class Zero:
    ...     uses_honest_grads = True
    ...     def apply(self, *, honest_grads, **unused):
    ...         return torch.zeros_like(honest_grads[0])
    >>> TorchByzantineNode(Zero()).byzantine_gradient_for_next_batch((torch.ones(2),))
    tensor([0., 0.])
    """

    def __init__(
        self,
        attack: Any,
        model: nn.Module | Callable[[], nn.Module] | None = None,
        data: Any = None,
        **options: Any,
    ) -> None:
        acts("attack", attack, "step" if hasattr(attack, "step") else "apply", "Pass an attack.")
        self.attack = attack
        needs = getattr(attack, "uses_base_grad", False) or getattr(attack, "uses_model_batch", False)
        if needs and (model is None or data is None):
            raise ValueError(
                f"{type(attack).__name__} needs an own gradient, or a model and a batch; got no model or no "
                "data. Pass model=... and data=... to TorchByzantineNode."
            )
        self.learner = None if model is None or data is None else TorchHonestNode(model, data, **options)
        self.device = torch.device(options.get("device", "cpu"))
        self.seed, self.node = int(options.get("seed", 0)), options.get("node", 0)
        self.round = 0
        self._memory: Any = None

    saves_itself = True
    """``state_dict`` holds all that changes, so that its host need not save the data too."""

    @property
    def only_reads(self) -> bool:
        """Whether the host may show it the vectors themselves: byzflow's own attacks write to none."""
        return type(self.attack).__module__.partition(".")[0] == "byzflow"

    def begin_round(self, round: int) -> None:
        """Take the number of the round from whoever counts."""
        self.round = round
        if self.learner is not None:
            self.learner.begin_round(round)

    def next_batch(self) -> tuple[Any, Any]:
        """Return the batch of this round; empty without data."""
        return (torch.empty(0), torch.empty(0)) if self.learner is None else self.learner.next_batch()

    def byzantine_gradient(self, x: Any, y: Any, honest_grads: Sequence[Any] | None = None) -> Any:
        """Return the attack's vector, shape ``(d,)``."""
        attack = self._attack()
        known: dict[str, Any] = {}
        if getattr(attack, "uses_honest_grads", False):
            known["honest_grads"] = list(honest_grads or ())
        if self.learner is not None and getattr(attack, "uses_base_grad", False):
            known["base_grad"] = self.learner.honest_gradient_for_next_batch()
        if self.learner is not None and getattr(attack, "uses_model_batch", False):
            known["model"] = self.learner.model
            known["x"], known["y"] = self.learner.next_batch()
        with one_thread(), self._stream(attack):
            return self._apply(attack, known)

    def byzantine_gradient_for_next_batch(self, honest_grads: Sequence[Any] | None = None) -> Any:
        """Return this round's vector and go on to the next round."""
        vector = super().byzantine_gradient_for_next_batch(honest_grads)
        self.begin_round(self.round + 1)
        return vector

    def apply_server_gradient(self, vec: Any) -> None:
        """Keep the own model level with the server's, if there is one."""
        if self.learner is not None:
            self.learner.apply_server_gradient(vec)

    def p2p_broadcast_vector(self, neighbor_vectors: Sequence[Any] | None = None, like: Any = None) -> Any:
        """Return malicious parameters; an attack on gradients becomes a step from the own model."""
        shown = list(neighbor_vectors or ([] if like is None else [like]))
        if self.learner is None:
            vector = self.byzantine_gradient(None, None, honest_grads=shown)
        else:
            if shown and len(shown[0]) == len(self.learner.get_param_vector()):
                self.learner.set_param_vector(torch.stack([torch.as_tensor(v) for v in shown]).mean(dim=0))
            vector = self.byzantine_gradient(None, None, honest_grads=shown)
            if not getattr(self.attack, "uses_honest_grads", False):
                lr = self.learner.lr
                step = lr(self.round) if callable(lr) else lr
                change = self.learner.spread(torch.as_tensor(vector))
                vector = self.learner.get_param_vector().sub_(change, alpha=step)
        if isinstance(like, torch.Tensor):
            return torch.as_tensor(vector).to(device=like.device, dtype=like.dtype)
        return vector

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes from round to round."""
        learner = {} if self.learner is None else {"learner": self.learner.state_dict()}
        memory = {} if self._memory is None else {"memory": self._memory}
        return {"round": self.round, **learner, **memory}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.round, self._memory = int(state["round"]), state.get("memory")
        if self.learner is not None:
            self.learner.load_state_dict(state["learner"])

    def _apply(self, attack: Any, known: Mapping[str, Any]) -> Any:
        if not callable(getattr(attack, "step", None)):
            return attack.apply(**known)
        vector, self._memory = attack.step(self._memory, **known)
        return vector

    def _attack(self) -> Any:
        fields = dataclasses.fields(self.attack) if dataclasses.is_dataclass(self.attack) else ()
        if any(item.name == "seed" for item in fields) and self.attack.seed is None:
            seed = torch_seed(self.seed, self.node, self.round, "attack")
            return dataclasses.replace(self.attack, seed=seed)
        if isinstance(self.attack, AdaptiveAttack):
            return seeded(self.attack, self.seed, self.round, None, f"{self.node}/attack")
        return self.attack

    def _stream(self, attack: Any) -> contextlib.AbstractContextManager[None]:
        """Return what an attack that runs the model draws for its layers from."""
        if self.learner is None or not getattr(attack, "uses_model_batch", False):
            return contextlib.nullcontext()
        return self.learner.forward_stream()
