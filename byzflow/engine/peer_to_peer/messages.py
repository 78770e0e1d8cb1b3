"""What a peer-to-peer round asks for: plain values.

Instructions are keys of many dictionaries, and so tuples, of which no two kinds are ever equal.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ("Aggregate", "Forge", "HalfStep", "Instruction")


class HalfStep(NamedTuple):
    """Ask an honest node for its half step."""

    node: int


class Forge(NamedTuple):
    """Ask a Byzantine node what it sends: to one receiver, or (None) the same to all."""

    node: int
    receiver: int | None = None


class Aggregate(NamedTuple):
    """Let an honest node aggregate its own half step and its senders' vectors, in that order."""

    node: int
    senders: tuple[int, ...]


Instruction = HalfStep | Forge | Aggregate
