"""A torch model whose trainable parameters lie in one vector, and batches drawn without hidden state."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from byzflow.engine.node.streams import generator, torch_seed
from byzflow.operators.checks import positive

__all__ = ("Batches", "Draws", "FlatModel", "own_model")

_GLOBAL_STREAM = threading.Lock()
"""Layers such as dropout draw from torch's one global generator: only one thread may steer it at a time."""


def own_model(model: nn.Module | Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return a model of one's own: a copy of a module, or what a factory makes under `seed`.

    Examples
    --------
    >>> a, b = (own_model(lambda: nn.Linear(2, 1), seed=3) for _ in range(2))
    >>> bool((a.weight == b.weight).all())
    True
    """
    if isinstance(model, nn.Module):
        return copy.deepcopy(model)
    with _global_stream(torch_seed(seed, "everyone", 0, "model")):
        made = model()
    if not isinstance(made, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module or a function that returns one; got {type(made).__name__}. "
            "Pass nn.Linear(64, 10), say, or a function that makes it."
        )
    return made


@contextlib.contextmanager
def _global_stream(seed: int) -> Iterator[None]:
    """Give torch's global generator a seed inside the block, and its old state back after it."""
    with _GLOBAL_STREAM:
        before = torch.get_rng_state()
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_rng_state(before)


class Draws:
    """Gives code that may draw from torch's global generator a stream of its own.

    Whether it draws is found out when it first runs, unless that is known: what does not is not held up.

    Examples
    --------
    >>> draws, noise = Draws(), []
    >>> for _ in range(2):
    ...     with draws.stream(0, "node", 0, "forward"):
    ...         noise.append(torch.rand(1))
    >>> bool(noise[0] == noise[1])
    True
    """

    def __init__(self, known: bool = False) -> None:
        self._draws = True if known else None

    def stream(
        self, seed: int, node: int | str, round: int, purpose: str
    ) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the code runs: its generator has this key."""
        if self._draws is False:
            return contextlib.nullcontext()
        return self._watched(torch_seed(seed, node, round, purpose))

    @contextlib.contextmanager
    def _watched(self, seed: int) -> Iterator[None]:
        with _global_stream(seed):
            before = None if self._draws else torch.get_rng_state()
            yield
            if before is not None:
                self._draws = not torch.equal(before, torch.get_rng_state())


class FlatModel:
    """The trainable parameters of a module as one vector that they are views of.

    Examples
    --------
    >>> flat = FlatModel(nn.Linear(2, 1))
    >>> flat.vector.zero_()
    tensor([0., 0., 0.])
    >>> flat.module.weight.tolist()
    [[0.0, 0.0]]
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        kinds = {(p.dtype, p.device) for p in self.parameters}
        if len(kinds) != 1:
            raise ValueError(
                f"A node's model needs trainable parameters of one dtype on one device; got {len(kinds)} "
                "kinds. Convert the model with .to(...)."
            )
        self.vector = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        start = 0
        for parameter in self.parameters:
            stop = start + parameter.numel()
            parameter.data = self.vector[start:stop].view(parameter.shape)
            start = stop
        self.draws = Draws(any(map(_draws, module.modules())))

    def gradient(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the gradient of `loss`, shape ``(d,)``; zeros for parameters it does not depend on."""
        parts = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        pairs = zip(self.parameters, parts, strict=True)
        return torch.cat([(torch.zeros_like(p) if part is None else part).reshape(-1) for p, part in pairs])

    def spread(self, vec: torch.Tensor) -> torch.Tensor:
        """Return a vector of all parameters: `vec` has the entries of the trained ones, others are 0."""
        parts = iter(torch.split(vec, [parameter.numel() for parameter in self.parameters]))
        trainable = {id(parameter) for parameter in self.parameters}
        return torch.cat(
            [
                next(parts) if id(parameter) in trainable else vec.new_zeros(parameter.numel())
                for parameter in self.module.parameters()
            ]
        )


def _draws(layer: nn.Module) -> bool:
    """Whether a layer draws numbers while it is trained, as attention and recurrent ones with dropout do."""
    rate = getattr(layer, "dropout", 0.0)
    return isinstance(layer, nn.modules.dropout._DropoutNd | nn.RReLU) or (
        isinstance(rate, float) and rate > 0
    )


class Batches:
    """Mini-batches of a data set, a pure function of (seed, node, round).

    Each pass over the data is a fresh permutation; the tail that does not fill a batch is left out. What a
    data set draws from torch's generator for its examples, as augmentations do, is keyed likewise.

    Parameters
    ----------
    data : tuple of array, or torch Dataset
        ``(x, y)`` with one row for each example, or a map-style data set of such pairs.
    batch_size : int
        Examples in a batch [rows]; at most all there are.

    Examples
    --------
    >>> batches = Batches((torch.arange(4.0), torch.arange(4)), 2, seed=0, node=0)
    >>> x, y = batches.at(0)
    >>> len(x), bool((x == y).all())
    (2, True)
    """

    def __init__(self, data: Any, batch_size: int, *, seed: int, node: int | str) -> None:
        positive("batch_size", batch_size)
        if isinstance(data, tuple | list) and len(data) == 2:
            self._x, self._y = torch.as_tensor(data[0]), torch.as_tensor(data[1])
            self._items = None
            if len(self._x) != len(self._y):
                raise ValueError(
                    f"data needs as many labels as examples; got {len(self._y)} and {len(self._x)}. Pass "
                    "(x, y) with one row of each for each example."
                )
            self.size = len(self._x)
        elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
            self._items, self.size = data, len(data)
        else:
            raise TypeError(
                f"data must be (x, y) or a map-style Dataset; got {type(data).__name__}. Give another kind "
                "of data set __getitem__ and __len__."
            )
        if self.size == 0:
            raise ValueError("data needs at least one example; got none. Give every node a part of the data.")
        self.batch_size = min(batch_size, self.size)
        self._key = (seed, node)
        self._pass: tuple[int, torch.Tensor] | None = None
        self._draws = Draws()

    def at(self, round: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the batch of a round."""
        epoch, place = divmod(round, self.size // self.batch_size)
        if self._pass is None or self._pass[0] != epoch:
            order = generator(*self._key, epoch, "batch").permutation(self.size)
            self._pass = (epoch, torch.from_numpy(order))
        index = self._pass[1][place * self.batch_size : (place + 1) * self.batch_size]
        if self._items is None:
            return self._x[index.to(self._x.device)], self._y[index.to(self._y.device)]
        with self._draws.stream(*self._key, round, "examples"):
            pairs = [self._items[int(i)] for i in index]
        x, y = zip(*pairs, strict=True)
        return torch.stack([torch.as_tensor(v) for v in x]), torch.stack([torch.as_tensor(v) for v in y])
