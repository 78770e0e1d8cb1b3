"""A ready-made honest node: a torch model, a loss, some data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from byzflow.engine.node.base import HonestNode
from byzflow.engine.node.flat import Batches, FlatModel, own_model
from byzflow.engine.node.mixin import P2PHonestMixin
from byzflow.kernels.threads import one_thread
from byzflow.operators.checks import finite, nonnegative, real

__all__ = ("TorchHonestNode",)


class TorchHonestNode(P2PHonestMixin, HonestNode):
    """A node that trains a torch model on its own data.

    It sends its momentum ``m <- beta m + (1 - beta) (gradient + weight_decay theta)`` and steps by
    ``theta <- theta - lr aggregate``. Every random draw depends on (seed, node, round) alone, and asking
    twice before a step gives the same answer.

    Parameters
    ----------
    model : torch.nn.Module or callable
        The model, which is copied, or a function that makes it, the same on every node by the seed.
    data : tuple of array, or torch Dataset
        ``(x, y)`` with one row for each example, or a map-style data set.
    loss : callable, optional
        ``loss(output, y)``, a mean over the batch; cross-entropy by default.
    batch_size : int, default 32
        Examples in a batch [rows].
    lr : float or callable, default 0.05
        Step length, or a function from the round to it.
    momentum : float, default 0.0
        Worker momentum ``beta``, ``0 <= beta < 1``.
    weight_decay : float, default 0.0
        Factor of the parameters that is added to the gradient.
    seed : int, default 0
        Seed of the run, the same on all nodes.
    node : int or str, default 0
        What tells this node's streams apart.
    device : str, default "cpu"
        Where the model is, and batches go.
    p2p_agg, p2p_pre : optional
        The rules it mixes with in peer-to-peer training.

    Examples
    --------
    >>> data = torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [0.0]])
    >>> node = TorchHonestNode(nn.Linear(1, 1, bias=False), data, loss=nn.MSELoss(), lr=0.5)
    >>> node.set_param_vector(torch.tensor([2.0]))
    >>> node.honest_gradient_for_next_batch()
    tensor([4.])
    >>> node.apply_server_gradient(torch.tensor([4.0]))
    >>> node.get_param_vector()
    tensor([0.])
    """

    only_reads = True
    """Vectors it is given are never written to, so that its host need not copy them."""

    saves_itself = True
    """``state_dict`` holds all that changes, so that its host need not save the data too."""

    def __init__(
        self,
        model: nn.Module | Callable[[], nn.Module],
        data: Any,
        *,
        loss: Callable[[Any, Any], torch.Tensor] | None = None,
        batch_size: int = 32,
        lr: float | Callable[[int], float] = 0.05,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        seed: int = 0,
        node: int | str = 0,
        device: str = "cpu",
        p2p_agg: Any = None,
        p2p_pre: Any = None,
    ) -> None:
        real("momentum", momentum)
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must satisfy 0 <= momentum < 1; got {momentum}. 0.9 is usual.")
        if loss is not None and (isinstance(loss, type) or not callable(loss)):
            raise TypeError(
                f"loss must be a function of output and y; got {type(loss).__name__}. Pass nn.MSELoss(), say."
            )
        if not callable(lr):
            real("lr", lr, least=0.0)
        finite("weight_decay", weight_decay)
        nonnegative("seed", seed)
        self.device = torch.device(device)
        self.model = own_model(model, seed).to(self.device)
        self.criterion = loss or nn.CrossEntropyLoss()
        self.p2p_agg, self.p2p_pre = p2p_agg, p2p_pre
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.seed, self.node, self.round = seed, node, 0
        self._flat = FlatModel(self.model)
        self._batches = Batches(data, batch_size, seed=seed, node=node)
        self._velocity: torch.Tensor | None = None
        self._answer: tuple[int, torch.Tensor] | None = None

    def begin_round(self, round: int) -> None:
        """Take the number of the round from whoever counts."""
        self.round = round

    def next_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the batch of this round."""
        x, y = self._batches.at(self.round)
        return x.to(self.device), y.to(self.device)

    def honest_gradient(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the plain gradient on a batch, weight decay included, shape ``(d,)``."""
        self.model.train()
        with one_thread(), self.forward_stream():
            gradient = self._flat.gradient(self.criterion(self.model(x), y))
        return gradient.add_(self._flat.vector, alpha=self.weight_decay) if self.weight_decay else gradient

    def honest_gradient_for_next_batch(self) -> torch.Tensor:
        """Return this round's momentum, shape ``(d,)``; the same again if asked again."""
        if self._answer is None or self._answer[0] != self.round:
            gradient = self.honest_gradient(*self.next_batch())
            if self.momentum:
                if self._velocity is None:
                    self._velocity = torch.zeros_like(gradient)
                gradient = self._velocity.mul(self.momentum).add_(gradient, alpha=1.0 - self.momentum)
                self._velocity = gradient
            self._answer = (self.round, gradient)
        return self._answer[1]

    def apply_server_gradient(self, vec: Any) -> None:
        """Step along the aggregate, shape ``(d,)``, and end the round."""
        self._step(torch.as_tensor(vec), self.lr(self.round) if callable(self.lr) else self.lr)

    def p2p_half_step(self, lr: float) -> torch.Tensor:
        """Step along the own momentum and return the parameters, shape ``(d,)``; ends the round."""
        self._step(self.honest_gradient_for_next_batch(), lr)
        return self.get_param_vector()

    def spread(self, vec: torch.Tensor) -> torch.Tensor:
        """Return a gradient with one entry for each parameter, those that are not trained included."""
        return self._flat.spread(vec)

    def evaluate(self, x: Any, y: Any) -> dict[str, float]:
        """Return accuracy and loss on a data set; accuracy is NaN where y holds no classes."""
        x, y = torch.as_tensor(x).to(self.device), torch.as_tensor(y).to(self.device)
        self.model.eval()
        with one_thread(), torch.no_grad():
            output = self.model(x)
            loss = float(self.criterion(output, y))
        classes = not y.is_floating_point() and output.ndim == 2
        hits = float((output.argmax(dim=1) == y).double().mean()) if classes else float("nan")
        return {"accuracy": hits, "loss": loss}

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes from round to round, in copies."""
        model = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        velocity = {} if self._velocity is None else {"velocity": self._velocity.clone()}
        rule = {} if self.p2p_state is None else {"rule": dict(self.p2p_state)}
        return {"round": self.round, "model": model, **velocity, **rule}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        velocity = state.get("velocity")
        self._velocity = None if velocity is None else velocity.clone()
        self.p2p_state = state.get("rule")
        self.round, self._answer = int(state["round"]), None

    def _step(self, vec: torch.Tensor, lr: float) -> None:
        if vec.shape != self._flat.vector.shape:
            raise ValueError(
                f"The update must have shape {tuple(self._flat.vector.shape)}, one entry for each trainable "
                f"parameter; got {tuple(vec.shape)}. Give all nodes, and the server, the same model."
            )
        self._flat.vector.sub_(vec.to(self._flat.vector), alpha=lr)
        self.round += 1

    def forward_stream(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which layers that draw, as dropout does, draw from this round's stream."""
        return self._flat.draws.stream(self.seed, self.node, self.round, "forward")
