"""The parameter server as users make it: what it is given is checked here, rounds are run by `Rounds`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from byzflow.engine.checkpoint import Checkpoint
from byzflow.engine.config import seconds
from byzflow.engine.graph.client_pool import pool_on
from byzflow.engine.node.actors import NodeActor
from byzflow.engine.node.sync import run_sync
from byzflow.engine.parameter_server.archive import Archive
from byzflow.engine.parameter_server.decision import GRADIENT_OF, LIE_OF
from byzflow.engine.parameter_server.plan import Cohort
from byzflow.engine.parameter_server.reduction import Reduction
from byzflow.engine.parameter_server.report import RoundReport
from byzflow.engine.parameter_server.rounds import Rounds
from byzflow.engine.rounds.calls import Roster
from byzflow.engine.rounds.duties import declares, distinct, made, require
from byzflow.engine.rounds.limits import check_limits
from byzflow.engine.rounds.memo import UPDATE
from byzflow.engine.rounds.seats import is_remote
from byzflow.engine.rounds.turn import Turn
from byzflow.operators.checks import acts, several

__all__ = ("ParameterServer",)


class ParameterServer:
    """Synchronous training with one server: collect, be lied to, aggregate, apply.

    Parameters
    ----------
    honest_nodes, byzantine_nodes : sequence
        Handles of spawned nodes, or plain objects with the same methods, sync or async.
    aggregator : Aggregator
        The rule.
    pre_aggregator : PreAggregator, optional
        Applied to the rows first.
    update_byzantines : bool, default False
        Whether Byzantine nodes get the aggregate too.
    actor_pool : ActorPool, optional
        Where the aggregator runs; without one, in this process.
    scheduler_metadata : mapping, optional
        For the operators' context.
    deadline : float, optional
        Seconds for the answers in one phase; default ``byzflow.round.deadline``. A round whose nodes lost
        their last worker waits for another one as long, but at least ``byzflow.comm.connect-timeout`` and at
        most ``byzflow.host.return-deadline``.
    quorum : int, optional
        Fit vectors that a round needs; default: all but as many as the rules tolerate.
    seed : int, optional
        Seeds rules that draw at random.
    checkpoint : Checkpoint or path-like, optional
        Where to keep the state of the run every so many rounds; see `resume`.
    client : distributed.Client or Cluster, optional
        Where the rules run on large vectors that are in this process, unless there is an `actor_pool`; it is
        never closed. Nodes are spawned there by passing it as their backend.

    Examples
    --------
    >>> import numpy as np
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> class Node:
    ...     w = np.ones(2)
    ...     def honest_gradient_for_next_batch(self):
    ...         return self.w
    ...     def apply_server_gradient(self, g):
    ...         self.w = self.w - 0.5 * g
    >>> with_three = ParameterServer([Node(), Node(), Node()], [], CoordinateWiseMedian())
    >>> with_three.round_sync()
    array([1., 1.])
    >>> with_three.hon[2].w
    array([0.5, 0.5])
    """

    def __init__(
        self,
        honest_nodes: Sequence[Any],
        byzantine_nodes: Sequence[Any] | None,
        aggregator: Any,
        pre_aggregator: Any = None,
        update_byzantines: bool = False,
        *,
        actor_pool: Any = None,
        scheduler_metadata: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        quorum: int | None = None,
        seed: int | None = None,
        checkpoint: Any = None,
        client: Any = None,
    ) -> None:
        self.hon = list(several("honest_nodes", honest_nodes))
        self.byz = list(several("byzantine_nodes", () if byzantine_nodes is None else byzantine_nodes))
        self.agg, self.pre = aggregator, pre_aggregator
        self.update_byz, self.pool = update_byzantines, actor_pool
        self.deadline = seconds("round.deadline") if deadline is None else deadline
        self.quorum, self.client = quorum, client
        cohort = Cohort(len(self.hon), len(self.byz))
        _check(self)
        check_limits(deadline=deadline, quorum=quorum, seed=seed, most=cohort.n, who="nodes")
        self._cluster = pool_on(client)
        reduction = Reduction(pool=actor_pool, metadata=scheduler_metadata, seed=seed, cluster=self._cluster)
        self.scheduler = None if actor_pool is None else reduction.scheduler(aggregator, actor_pool)
        self._roster = Roster([*self.hon, *self.byz])
        store = Checkpoint.of(checkpoint)
        self._archive = None if store is None else Archive(store, self._roster, cohort, "parameter-server")
        self._rounds = Rounds(
            self._roster,
            cohort,
            reduction,
            quorum=quorum,
            update_byz=update_byzantines,
            deadline=self.deadline,
            archive=self._archive,
        )
        self._turn = Turn()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    @property
    def history(self) -> list[RoundReport]:
        """Reports of the last ``byzflow.round.history`` rounds, oldest first, in a new list."""
        return self._rounds.history.latest()

    async def round(self) -> Any:
        """Run one round and return the aggregate, shape ``(d,)``.

        A round that was cancelled after the aggregate was known is finished by the next call; one that was
        cancelled before begins again, and no node steps twice.

        Raises
        ------
        ToleranceError
            If too few nodes gave a fit answer, or took the update; the text says which and why. That round
            is over and in the history; the next call is the next round.
        RuntimeError
            After `shutdown`, and while a round is under way in another thread or event loop.
        """
        if self._closed:
            raise RuntimeError("round() needs an open server; this one is shut down. Make a new one.")
        async with self._turn.taken():
            return await self._rounds.run(self.agg, self.pre)

    def round_sync(self) -> Any:
        """Run one round from plain code; works inside a running loop too."""
        return run_sync(self.round())

    def resume_sync(self) -> int:
        """As `resume`, from plain code or a notebook cell."""
        return run_sync(self.resume())

    def shutdown_sync(self) -> None:
        """As `shutdown`, from plain code or a notebook cell."""
        run_sync(self.shutdown())

    async def resume(self) -> int:
        """Take up the run that the checkpoint holds, and return how many rounds it has done.

        Raises
        ------
        ValueError
            If the server has no checkpoint.
        CheckpointError
            If there is no such file, or it is torn, foreign, or of a run with other nodes, seed or rules.
        """
        if self._archive is None:
            raise ValueError("resume() needs a checkpoint; got None. Pass checkpoint=... to ParameterServer.")
        async with self._turn.taken():
            return await self._rounds.resume(self._archive, self.agg, self.pre)

    async def shutdown(self) -> None:
        """Close every node's backend; again is the same as once. The pool is the caller's.

        A round that is under way in another task ends with a `RuntimeError`.
        """
        self._closed = True
        await self._turn.close()
        await self._rounds.close()
        self._roster.close()
        if self._cluster is not None:
            await self._cluster.shutdown()
        await NodeActor.close_many(self._roster.nodes)


def _check(server: ParameterServer) -> None:
    made((*server.hon, *server.byz))
    distinct(server.hon, server.byz)
    for nodes, methods in ((server.hon, ((GRADIENT_OF,), (UPDATE,))), (server.byz, ((LIE_OF,),))):
        for node in nodes:
            known = node._kind if is_remote(node) else node
            if not is_remote(node) or (inspect.isclass(known) and not declares(known, "__getattr__")):
                require(known, methods)
    acts("aggregator", server.agg, "aggregate", "Pass a rule.")
    if server.pre is not None:
        acts("pre_aggregator", server.pre, "pre_aggregate", "Pass a pre-aggregator, or None.")
    if server.pool is not None:
        acts("actor_pool", server.pool, "run_subtask", "Pass an ActorPool, or None.")
    if not server.hon:
        raise ValueError("ParameterServer needs at least one honest node; got none. Pass honest_nodes.")
