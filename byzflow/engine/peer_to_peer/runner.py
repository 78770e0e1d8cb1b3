"""Peer-to-peer rounds one after another: each is carried out by `Execution`, kept, and reported."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.checkpoint import Checkpoint
from byzflow.engine.config import seconds, setting
from byzflow.engine.graph.client_pool import pool_on
from byzflow.engine.node.cluster import DecentralizedCluster
from byzflow.engine.node.sync import run_sync
from byzflow.engine.parameter_server.archive import Archive
from byzflow.engine.parameter_server.plan import Cohort
from byzflow.engine.parameter_server.report import History
from byzflow.engine.peer_to_peer.carrier import Carrier, ContextFactory
from byzflow.engine.peer_to_peer.connectivity import Connectivity
from byzflow.engine.peer_to_peer.execution import Execution
from byzflow.engine.peer_to_peer.holding import Holding
from byzflow.engine.peer_to_peer.identity import Identity
from byzflow.engine.peer_to_peer.memory import PeerMemory
from byzflow.engine.peer_to_peer.peers import FORGE, Peers
from byzflow.engine.peer_to_peer.protocol import PeerRound
from byzflow.engine.peer_to_peer.report import PeerReport
from byzflow.engine.peer_to_peer.schedule import TopologyLike, TopologySchedule
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.weights import Scheme, check_scheme
from byzflow.engine.rounds.limits import check_limits
from byzflow.engine.rounds.turn import Turn
from byzflow.exceptions import NodeLostError, ToleranceError
from byzflow.operators.checks import finite, real, several

__all__ = ("DecentralizedPeerToPeer",)

logger = logging.getLogger(__name__)


class DecentralizedPeerToPeer:
    """Runs peer-to-peer rounds; `PeerToPeer` is the door for users, with the same parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from byzflow.engine.peer_to_peer.topology import Topology
    >>> class Node:
    ...     def __init__(self, value):
    ...         self.theta = np.full(1, value)
    ...     def p2p_half_step(self, lr):
    ...         return self.theta
    ...     def p2p_aggregate_and_set(self, own, neighbors):
    ...         self.theta = np.mean([own, *neighbors], axis=0)
    >>> nodes = [Node(0.0), Node(2.0)]
    >>> DecentralizedPeerToPeer(nodes, [], Topology.complete(2)).run_round()
    >>> [node.theta for node in nodes]
    [array([1.]), array([1.])]
    """

    def __init__(
        self,
        honest_nodes: Sequence[Any],
        byzantine_nodes: Sequence[Any] | None,
        topology: TopologyLike,
        *,
        lr: float | Callable[[int], float] = 0.05,
        context_factory: ContextFactory | None = None,
        deadline: float | None = None,
        quorum: int | None = None,
        seed: int | None = None,
        checkpoint: Any = None,
        client: Any = None,
        mixing: Scheme | None = None,
    ) -> None:
        honest = list(several("honest_nodes", honest_nodes))
        byzantine = list(several("byzantine_nodes", () if byzantine_nodes is None else byzantine_nodes))
        if not honest:
            raise ValueError("PeerToPeer needs at least one honest node; got none. Pass honest_nodes.")
        if not callable(lr):
            lr = _step_length("lr", lr)
        if mixing is not None:
            check_scheme("mixing", mixing)
        check_limits(deadline=deadline, quorum=quorum, seed=seed, most=len(honest), who="honest nodes")
        self.schedule = TopologySchedule(topology, len(honest) + len(byzantine))
        self.peers = Peers(honest, byzantine)
        self.honest, self.byz, self.topology = honest, byzantine, topology
        self.context_factory, self.client = context_factory, client
        self.lr, self.quorum, self.mixing, self.seed = lr, quorum, mixing, seed
        self.deadline = seconds("round.deadline") if deadline is None else deadline
        store = Checkpoint.of(checkpoint)
        cohort = Cohort(len(honest), len(byzantine))
        self._archive = None if store is None else Archive(store, self.peers.roster, cohort, "peer-to-peer")
        self._identity = Identity(self.peers, self.schedule, seed=seed, mixing=mixing)
        self._memory = PeerMemory(self.peers, int(setting("round.snapshot-every")))
        fixed = topology if isinstance(topology, Topology) else None
        self._carrier = Carrier(len(self.peers), fixed, context_factory, pool_on(client))
        self._holding = None if self._carrier.carries else Holding(self.peers)
        self._history: History[PeerReport] = History()
        self._number = 0
        self._turn = Turn()
        self._started = self._closed = False

    @property
    def history(self) -> list[PeerReport]:
        """Reports of the last ``byzflow.round.history`` rounds, oldest first, in a new list."""
        return self._history.latest()

    @property
    def cluster(self) -> DecentralizedCluster:
        """The nodes with their contexts, ids ``"0"``, ``"1"``, …; started only if those carry the vectors."""
        return self._carrier.cluster

    _cluster = cluster

    @property
    def connectivity(self) -> Connectivity:
        """How the honest nodes hang together in the topology of the next round."""
        topology = self.schedule.at(self._number)
        return topology.connectivity(range(self.peers.n_honest), who="honest node")

    async def start(self) -> None:
        """Find out what the nodes can do, and say whether the honest ones can agree on this topology."""
        if self._closed:
            raise RuntimeError("A run that was stopped cannot start again. Make a new one.")
        if self._started:
            return
        await self._learn()
        await self._carrier.start()
        level = logging.INFO if self.connectivity.strong else logging.WARNING
        logger.log(level, "topology: %s", self.connectivity)
        self._started = True

    async def stop(self) -> None:
        """Close every node's backend; again is the same as once.

        A round that is under way in another task ends with a `RuntimeError`.
        """
        self._closed = True
        await self._turn.close()
        await self._memory.returns.close()
        await self._carrier.close()
        if self._holding is not None:
            await self._holding.close()
        await self.peers.close()

    async def run_round_async(self) -> None:
        """Run one round.

        One that was cancelled is finished by the next call: under the same number, in which no node steps or
        mixes twice.

        Raises
        ------
        ToleranceError
            If the round does not stand; the text says which nodes failed and why. Its report is in the
            history, and the next call is the next round.
        RuntimeError
            After `stop`, and while a round is under way in another thread or event loop.
        """
        if self._closed:
            raise RuntimeError("A round needs an open run; this one is stopped. Make a new one.")
        async with self._turn.taken():
            await self.start()
            self.peers.number = self._number
            self.peers.roster.settle()
            await self._memory.keep(self._number, self.deadline)
            if self._archive is not None:
                await self._archive.try_out(self.deadline, self.peers.absent)
            round = self._round()
            lr = _step_length(f"lr({self._number})", self.lr(self._number)) if callable(self.lr) else self.lr
            run = Execution(
                round,
                self.peers,
                lr=lr,
                deadline=self.deadline,
                mixing=self.mixing,
                seed=self.seed,
                memory=self._memory,
                carrier=self._carrier if self._carrier.carries else None,
                holding=self._holding,
            )
            await run.delivery.call_back()
            failure = await self._carry_out(round, run)
            states = None if failure else await self._states(run)
            if states is not None and self._archive is not None:
                round.letters.unsaved(self._archive.refusals(states))
            self._history.append(await run.report())
            self._number += 1
            self.peers.roster.suspects.clear()
            if failure is not None:
                raise failure
            if states is not None:
                assert self._archive is not None
                about, needed = self._identity.after(self._number), max(1, self.quorum or 1)
                await self._archive.put(self._number, states, None, about, needed)

    async def resume(self) -> int:
        """Take up the run that the checkpoint holds, and return how many rounds it has done.

        Raises
        ------
        ValueError
            If the run has no checkpoint.
        CheckpointError
            If there is no such file, or it is torn, foreign, or of a run with other nodes, another seed or
            topology, or other rules of nodes that can tell them (``p2p_rules()``).
        """
        if self._archive is None:
            raise ValueError("resume() needs a checkpoint; got None. Pass checkpoint=... to PeerToPeer.")
        async with self._turn.taken():
            await self._learn()
            returns = self._memory.returns
            self._number, _ = await self._archive.read(self.deadline, self._identity.after, returns)
            self.peers.gone |= self._archive.missing
            await returns.close()
            self._memory = PeerMemory(self.peers, int(setting("round.snapshot-every")))
            await self._memory.keep(self._number, self.deadline)
            return self._number

    async def _learn(self) -> None:
        """Find out what the nodes can do, and for checkpoints, what they mix by."""
        self._memory.begin(self._number)
        while lost := await self.peers.learn(self.deadline):
            known = {i for i in lost if self._memory.knows(i)}
            failed = await self._memory.bring_back(known, self._number, self.deadline)
            for index in lost.keys() - known | failed.keys():
                failed.get(index, lost[index]).unwrap()
        if self._archive is not None:
            await self._identity.learn(self.deadline)

    async def _carry_out(self, round: PeerRound, run: Execution) -> ToleranceError | None:
        todo = round.start()
        try:
            while todo:
                todo = round.handle(await run.wave(todo))
        except ToleranceError as error:
            return error
        return round.failure()

    async def _states(self, run: Execution) -> Mapping[int, Outcome] | None:
        """Return the states for a checkpoint, if it is time, of nodes of workers that go meanwhile too."""
        if self._archive is None or not self._archive.checkpoint.due(self._number + 1):
            return None
        while True:
            states = await self._archive.states(self.deadline, self.peers.absent)
            lost = {i for i, outcome in states.items() if isinstance(outcome.error, NodeLostError)}
            if not lost:
                return states
            await run.delivery.bring_back(lost)

    def _round(self) -> PeerRound:
        n_honest, n = self.peers.n_honest, len(self.peers)
        return PeerRound(
            self.schedule.at(self._number),
            n_honest,
            self._number,
            quorum=self.quorum,
            equivocal=[i for i in range(n_honest, n) if self.peers.can(i, FORGE)],
        )

    def run_round(self) -> None:
        """Run one round from plain code; works inside a running loop too."""
        run_sync(self.run_round_async())


def _step_length(name: str, lr: Any) -> float:
    finite(name, lr)
    real(name, lr, least=0.0)
    return float(lr)
