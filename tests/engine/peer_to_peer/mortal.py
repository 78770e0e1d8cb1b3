"""Torch peers that kill their own worker once, in the phase and round they are told to."""

from __future__ import annotations

from typing import Any

import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
from byzflow.attacks import ZeroAttack
from byzflow.engine.node.torch import TorchByzantineNode, TorchHonestNode
from tests.engine.parameter_server.mortal import data, die_once, net, options


class MortalPeer(TorchHonestNode):
    def __init__(self, index: int, deaths: dict[str, int] | None = None, flags: str = "") -> None:
        rule = CoordinateWiseTrimmedMean(f=1)
        super().__init__(net, data(index), p2p_agg=rule, **options(index))
        self.deaths, self.flags = deaths or {}, flags

    def p2p_half_step(self, lr: float) -> torch.Tensor:
        die_once(self, "half-step")
        return super().p2p_half_step(lr)

    def p2p_aggregate_and_set(self, self_theta_half: Any, neighbor_vectors: Any) -> None:
        die_once(self, "aggregate")
        super().p2p_aggregate_and_set(self_theta_half, neighbor_vectors)


class CountingLiar(TorchByzantineNode):
    """Tells every receiver something else, the more so the oftener it was asked."""

    def __init__(self, index: int, deaths: dict[str, int] | None = None, flags: str = "") -> None:
        super().__init__(ZeroAttack(), **options(index))
        self.deaths, self.flags, self.count = deaths or {}, flags, 0

    saves_itself = False

    def p2p_vector_for(self, receiver: int, neighbor_vectors: Any = None, like: Any = None) -> Any:
        die_once(self, "attack")
        self.count += 1
        return -self.count * torch.stack(list(neighbor_vectors)).mean(dim=0) + receiver
