"""An honest node for both kinds of round, for tests to make it misbehave."""

from __future__ import annotations

from typing import Any

import torch


class SineNode:
    """Its gradient is the sine of its vector; what a subclass does in `misbehave` comes before that."""

    def __init__(self, number: int) -> None:
        self.number, self.steps = number, 0
        self.vector = torch.arange(3.0) + number

    def misbehave(self) -> None:
        """Do nothing; `steps` counts this round already."""

    def honest_gradient_for_next_batch(self) -> Any:
        self.steps += 1
        self.misbehave()
        return self.vector.sin()

    def apply_server_gradient(self, gradient: Any) -> None:
        self.vector = self.vector - gradient

    def p2p_half_step(self, lr: float) -> Any:
        return self.honest_gradient_for_next_batch()

    def p2p_aggregate_and_set(self, own: Any, neighbors: Any) -> None:
        self.vector = torch.stack([own, *neighbors]).median(dim=0).values
