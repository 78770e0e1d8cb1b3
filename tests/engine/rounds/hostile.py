"""Nodes that do their worst in one round each: to whoever reads their answers, and to what sends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def _bite(*args: Any) -> Any:
    raise SystemExit("bitten")


class KillsItsReader:
    """Ends whatever unpickles it."""

    def __reduce__(self) -> Any:
        return _bite, ()


class NeverPickles:
    __reduce_ex__ = _bite


class KillsItsReaderError(KillsItsReader, Exception):
    pass


class NeverPicklesError(NeverPickles, Exception):
    pass


class EvadesError(Exception):
    __getattribute__ = _bite


class Impostor(torch.Tensor):
    """A tensor that never travels and cannot be looked at."""

    __reduce_ex__ = _bite

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise SystemExit("bitten")


def _raise(error: Callable[..., BaseException], *args: Any) -> Any:
    raise error(*args)


ACTS: list[Callable[[], Any]] = [
    KillsItsReader,
    NeverPickles,
    lambda: _raise(KillsItsReaderError, "no"),
    lambda: _raise(NeverPicklesError, "no"),
    lambda: _raise(EvadesError, "no"),
    lambda: _raise(ValueError, KillsItsReader()),
    lambda: np.array([KillsItsReader()] * 3),
    lambda: [KillsItsReader()],
]


class Worker:
    """Hands in its own vector; the one of its number does its act in the round of its number instead."""

    def __init__(self, number: int, acts: bool) -> None:
        self.number, self.acts, self.round = number, acts, -1
        self.vector = torch.arange(3.0) + number

    def begin_round(self, round: int) -> None:
        self.round = round

    def honest_gradient_for_next_batch(self) -> Any:
        if self.round != self.number or self.number >= len(ACTS):
            return self.vector
        return ACTS[self.number]() if self.acts else _raise(ValueError, "no")

    def apply_server_gradient(self, gradient: Any) -> Any:
        self.vector = self.vector - 0.1 * gradient
        return KillsItsReader()

    def p2p_half_step(self, lr: float) -> Any:
        return self.honest_gradient_for_next_batch()

    def p2p_aggregate_and_set(self, own: Any, neighbors: Any) -> Any:
        self.vector = torch.stack([own, *neighbors]).median(dim=0).values
        return KillsItsReader()

    def get_param_vector(self) -> Any:
        return self.vector.as_subclass(Impostor) if self.acts else self.vector
