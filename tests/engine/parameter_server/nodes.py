"""Nodes for tests of rounds: fixed rows, and every way to fail."""

from __future__ import annotations

import threading
from typing import Any

import torch


def row(index: int, round: int, d: int) -> torch.Tensor:
    stream = torch.Generator().manual_seed(1000 * round + index)
    return torch.randn(d, generator=stream, dtype=torch.float32) + 3.0


class Honest:
    def __init__(self, index: int, d: int = 5) -> None:
        self.index, self.d, self.round = index, d, 0
        self.w = torch.zeros(d)

    def honest_gradient_for_next_batch(self) -> torch.Tensor:
        return row(self.index, self.round, self.d)

    def apply_server_gradient(self, g: torch.Tensor) -> None:
        self.w = self.w - 0.1 * g
        self.round += 1

    def weights(self) -> torch.Tensor:
        return self.w


class AsyncHonest(Honest):
    async def honest_gradient_for_next_batch(self) -> torch.Tensor:  # type: ignore[override]  # the async kind
        return row(self.index, self.round, self.d)


class Liar:
    """Sends minus the mean, and scribbles over what it was shown."""

    def __init__(self, scale: float = -1.0) -> None:
        self.scale = scale
        self.shown = 0
        self.updates = 0

    def byzantine_gradient_for_next_batch(self, honest_grads: Any) -> torch.Tensor:
        assert isinstance(honest_grads, tuple)
        self.shown = len(honest_grads)
        lie = self.scale * torch.stack(honest_grads).mean(dim=0)
        for vector in honest_grads:
            vector.fill_(float("nan"))
        return lie

    def apply_server_gradient(self, g: torch.Tensor) -> None:
        self.updates += 1
        g.fill_(float("nan"))


class Bad(Honest):
    """Misbehaves in the gradient phase of the rounds it is told to."""

    def __init__(self, index: int, how: str, rounds: tuple[int, ...] = (0,)) -> None:
        super().__init__(index)
        self.how, self.rounds, self.free = how, rounds, threading.Event()

    def honest_gradient_for_next_batch(self) -> Any:  # type: ignore[override]  # that is the point
        if self.round not in self.rounds:
            return super().honest_gradient_for_next_batch()
        if self.how == "hangs":
            self.free.wait(20)
        if self.how == "raises":
            raise OSError("disk full")
        if self.how == "times out":
            raise TimeoutError("no data in time")
        return {
            "shape": torch.zeros(self.d + 1),
            "dtype": torch.zeros(self.d, dtype=torch.float64),
            "type": "vector",
            "non-finite": torch.full((self.d,), float("inf")),
            "hangs": torch.zeros(self.d),
        }[self.how]

    def release(self) -> None:
        self.free.set()
