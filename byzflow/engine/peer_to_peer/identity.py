"""What a peer-to-peer run is, in words that its checkpoints keep: seed, mixing, topology, rules of nodes."""

from __future__ import annotations

import zlib

from byzflow.engine.actor.sweeps import shares
from byzflow.engine.identity import described
from byzflow.engine.peer_to_peer.peers import RULES, Peers
from byzflow.engine.peer_to_peer.schedule import TopologySchedule
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.weights import Scheme

__all__ = ("Identity",)

LATEST = 8  # rounds of which the topologies are compared, if a callable gives them


class Identity:
    """What a run is.

    Parameters
    ----------
    peers : Peers
        Its nodes.
    schedule : TopologySchedule
        Who sends to whom.
    seed, mixing
        As the run was given them.

    Examples
    --------
    >>> class Node:
    ...     def p2p_half_step(self, lr):
    ...         return lr
    >>> ring = TopologySchedule(Topology.ring(3), n=3)
    >>> Identity(Peers([Node(), Node(), Node()], []), ring, seed=4, mixing=None).after(7)
    {'seed': '4', 'mixing': 'None', 'topology': 'Topology(n=3, edges=6) b56e8ad2'}
    """

    def __init__(
        self, peers: Peers, schedule: TopologySchedule, *, seed: int | None, mixing: Scheme | None
    ) -> None:
        self._peers, self._schedule = peers, schedule
        self._seed, self._mixing = seed, mixing
        self._rules: dict[str, str] | None = None

    async def learn(self, deadline: float | None) -> None:
        """Ask the honest nodes for their rules, once: as they are made, before a state is taken up."""
        if self._rules is None:
            peers = self._peers
            able = [i for i in range(peers.n_honest) if peers.can(i, RULES)]
            queues = shares([peers.tells(able, 0, RULES)])
            asks = {i: (i, queue) for i, queue in zip(able, queues, strict=True)}
            answers = await peers.call(asks, deadline)
            told = {i: outcome.value for i, (outcome,) in answers.items() if outcome.error is None}
            self._rules = {f"rule of honest-{i}": str(told[i]) for i in sorted(told)}

    def after(self, rounds: int) -> dict[str, str]:
        """Return what the run is when it has done that many rounds."""
        known = {"seed": described(self._seed), "mixing": described(self._mixing)}
        if topology := self._topology(rounds):
            known["topology"] = topology
        return known | (self._rules or {})

    def _topology(self, rounds: int) -> str:
        """Return the form of the topologies and a checksum of their edges; those to come may not be known."""
        schedule = self._schedule
        if isinstance(schedule.source, Topology):
            return _text([schedule.source])
        if callable(schedule.source):
            return _text([schedule.at(t) for t in range(max(0, rounds - LATEST), rounds)])
        return _text(list(schedule.source))


def _text(topologies: list[Topology]) -> str:
    checksum = 0
    for topology in topologies:
        checksum = zlib.crc32(repr(topology._senders).encode(), checksum)
    forms = [*dict.fromkeys(map(repr, topologies))]
    return f"{' and '.join(forms[:2])}{' …' if len(forms) > 2 else ''} {checksum:08x}" if forms else ""
