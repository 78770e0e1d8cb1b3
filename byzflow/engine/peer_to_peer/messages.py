"""What a peer-to-peer round asks for (instructions) and what it is told (events): plain values.

Instructions are keys of many dictionaries, and so tuples, of which no two kinds are ever equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from byzflow.engine.rounds.answers import Answered

__all__ = (
    "Aggregate",
    "Aggregated",
    "DeadlinePassed",
    "Event",
    "Forge",
    "Forged",
    "HalfStep",
    "HalfStepTaken",
    "Instruction",
)


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


@dataclass(frozen=True, slots=True)
class HalfStepTaken:
    """An honest node has answered, or its call has failed."""

    node: int
    outcome: Answered


@dataclass(frozen=True, slots=True)
class Forged:
    """A Byzantine node has answered, or its call has failed."""

    node: int
    outcome: Answered
    receiver: int | None = None


@dataclass(frozen=True, slots=True)
class Aggregated:
    """An honest node holds its new vector, or its call has failed."""

    node: int
    outcome: Answered


Instruction = HalfStep | Forge | Aggregate


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The time for these instructions is over (None: for everything asked so far)."""

    asked: tuple[Instruction, ...] | None = None


Event = HalfStepTaken | Forged | Aggregated | DeadlinePassed
