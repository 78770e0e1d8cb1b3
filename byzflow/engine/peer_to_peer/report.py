"""What one peer-to-peer round leaves behind for people: a frozen report."""

from __future__ import annotations

from dataclasses import dataclass

from byzflow.engine.parameter_server.report import RoundReport

__all__ = ("PeerReport",)


@dataclass(frozen=True)
class PeerReport(RoundReport):
    """One peer-to-peer round in figures; `weights` stay None, as every node has a rule of its own.

    ``seconds`` has ``half-step``, ``attack`` (until the last Byzantine node has answered; nodes that wait for
    none of them aggregate meanwhile) and ``aggregation`` [seconds].

    Attributes
    ----------
    through : tuple of str
        Honest nodes that finished the round.
    spread : float or None
        Mean squared distance of the half steps to their mean, before mixing.
    consensus_distance : float or None
        The same after mixing, of the nodes that tell their parameters; None if none does.

    Examples
    --------
    >>> PeerReport(0, ("honest-0",), 1, spread=2.0, consensus_distance=0.5).consensus_distance
    0.5
    """

    through: tuple[str, ...] = ()
    spread: float | None = None
    consensus_distance: float | None = None
