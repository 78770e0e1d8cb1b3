"""Peer-to-peer training as users start it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from byzflow.engine.node.cluster import DecentralizedCluster
from byzflow.engine.node.sync import run_sync
from byzflow.engine.peer_to_peer.carrier import ContextFactory
from byzflow.engine.peer_to_peer.connectivity import Connectivity
from byzflow.engine.peer_to_peer.report import PeerReport
from byzflow.engine.peer_to_peer.runner import DecentralizedPeerToPeer
from byzflow.engine.peer_to_peer.schedule import TopologyLike
from byzflow.engine.peer_to_peer.weights import Scheme

__all__ = ("PeerToPeer",)


class PeerToPeer:
    """Training without a server: step, send to the neighbours, mix with what they sent.

    In a round every honest node takes its half step (``p2p_half_step(lr)``), the vectors go along the
    out-edges, and every node mixes its own with its in-neighbours', in node order, by its own rule
    (``p2p_aggregate_and_set(self_theta_half, neighbor_vectors)``, where it has that method). Byzantine nodes
    see copies of this round's vectors of their honest in-neighbours and answer with
    ``p2p_broadcast_vector(neighbor_vectors=…, like=…)``, the same for all, or with
    ``p2p_vector_for(receiver, neighbor_vectors=…, like=…)``, another one for each receiver; `like` is then
    the receiver's own vector, if the node hears it.

    An in-neighbour may have sent nothing fit: it is lost, late, or sends garbage. Nodes with a method
    ``p2p_set_neighbors(node, neighbors, missing)`` are told before they mix: their own index, their
    in-neighbours of this round, and which of these have no vector; once it has returned False, only in
    rounds in which somebody is missing. `P2PHonestMixin` fits its rules to that as a server does: they run as
    given if they can, else with ``f`` lowered by the number of the missing, if that is at most ``f``; an
    option that counts rows, as a trusted index, still means the same neighbour; and what a rule remembers for
    each node stays with that node.

    Parameters
    ----------
    honest_nodes, byzantine_nodes : sequence
        Handles of spawned nodes, or plain objects with the same methods, sync or async.
    topology : Topology, sequence of Topology, or callable
        Over the indices of the nodes, honest first, then Byzantine. A sequence is repeated; a callable gets
        the number of the round.
    lr : float or callable, default 0.05
        Step length, or a function from the round to it.
    channel_name : str, default "p2p"
        Kept for programs that pass it; nothing depends on it.
    context_factory : callable, optional
        ``context_factory(node_id, index)`` makes a `NodeContext` for each node, which then carries the
        vectors along the edges, as messages of the type ``"gradient"``. Without it they travel with the
        calls to the nodes' hosts, which is faster.
    deadline : float, optional
        Seconds for the answers in one phase; default ``byzflow.round.deadline``. A round whose nodes lost
        their last worker waits for another one as long, but at least ``byzflow.comm.connect-timeout`` and at
        most ``byzflow.host.return-deadline``.
    quorum : int, optional
        Honest nodes that must finish a round. By default, nodes that fail are left out with their reason,
        and a round fails if the rule of a node cannot run on what reached it.
    checkpoint : Checkpoint or path-like, optional
        Where to keep the state of the run every so many rounds; see `resume`.
    seed : int, optional
        Nodes with a method ``p2p_set_seed(seed)`` are told a seed before they mix, which depends on this
        one, the node and the round alone: `P2PHonestMixin` gives it to rules that draw at random and have
        no seed of their own. Batches and models have the seed of their node; topologies have their own.
    client : distributed.Client or Cluster, optional
        Where pipelines of the run's nodes (``NodeApplication``) run; it is never closed. Nodes are spawned
        there by passing it as their backend, and mix where they live.
    mixing : {"uniform", "metropolis"}, optional
        Weights that nodes with a method ``p2p_set_mixing(weights)`` are told before they mix, for the rows
        that really came: `P2PHonestMixin` gives them to a rule that has ``mixing`` weights.

    Raises
    ------
    ValueError
        If the topology has another number of nodes.
    TypeError
        If a node lacks a method; the text names it.

    Examples
    --------
    >>> import numpy as np
    >>> from byzflow.engine.peer_to_peer.topology import Topology
    >>> from byzflow.engine.peer_to_peer.gossip import NearestNeighborAveraging
    >>> class Node:
    ...     def __init__(self, value):
    ...         self.theta = np.full(1, value)
    ...     def p2p_half_step(self, lr):
    ...         self.theta = self.theta - lr * self.theta
    ...         return self.theta
    ...     def p2p_aggregate_and_set(self, own, neighbors):
    ...         self.theta = NearestNeighborAveraging(f=1).aggregate([own, *neighbors])
    >>> class Liar:
    ...     def p2p_broadcast_vector(self, neighbor_vectors=None, like=None):
    ...         return like * 0 + 1e9
    >>> nodes = [Node(1.0), Node(2.0), Node(3.0)]
    >>> p2p = PeerToPeer(nodes, [Liar()], Topology.complete(4), lr=0.5)
    >>> p2p.round_sync()
    >>> [float(node.theta[0]) for node in nodes], p2p.history[0].consensus_distance
    ([1.0, 1.0, 1.0], None)
    """

    def __init__(
        self,
        honest_nodes: Sequence[Any],
        byzantine_nodes: Sequence[Any] | None,
        topology: TopologyLike,
        *,
        lr: float | Callable[[int], float] = 0.05,
        channel_name: str = "p2p",
        context_factory: ContextFactory | None = None,
        deadline: float | None = None,
        quorum: int | None = None,
        seed: int | None = None,
        checkpoint: Any = None,
        client: Any = None,
        mixing: Scheme | None = None,
    ) -> None:
        self.channel_name = channel_name
        self._runner = DecentralizedPeerToPeer(
            honest_nodes,
            byzantine_nodes,
            topology,
            lr=lr,
            context_factory=context_factory,
            deadline=deadline,
            quorum=quorum,
            seed=seed,
            checkpoint=checkpoint,
            client=client,
            mixing=mixing,
        )

    async def __aenter__(self) -> Self:
        await self.bootstrap()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    @property
    def history(self) -> list[PeerReport]:
        """Reports of the last ``byzflow.round.history`` rounds, oldest first, in a new list."""
        return self._runner.history

    @property
    def _cluster(self) -> DecentralizedCluster:
        return self._runner.cluster

    @property
    def connectivity(self) -> Connectivity:
        """How the honest nodes hang together in the topology of the next round."""
        return self._runner.connectivity

    async def bootstrap(self) -> None:
        """Check the nodes, and log whether the honest ones are connected. The first round does it too."""
        await self._runner.start()

    async def round(self) -> None:
        """Run one round; see `DecentralizedPeerToPeer.run_round_async`."""
        await self._runner.run_round_async()

    async def resume(self) -> int:
        """Take up the run that the checkpoint holds; see `DecentralizedPeerToPeer.resume`."""
        return await self._runner.resume()

    async def shutdown(self) -> None:
        """Close every node's backend; again is the same as once."""
        await self._runner.stop()

    def bootstrap_sync(self) -> None:
        """As `bootstrap`, from plain code or a notebook cell."""
        run_sync(self.bootstrap())

    def round_sync(self) -> None:
        """As `round`, from plain code or a notebook cell."""
        run_sync(self.round())

    def resume_sync(self) -> int:
        """As `resume`, from plain code or a notebook cell."""
        return run_sync(self.resume())

    def shutdown_sync(self) -> None:
        """As `shutdown`, from plain code or a notebook cell."""
        run_sync(self.shutdown())
