"""A run's state on disk: every node, the rule's memory and the round number, in one checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.checkpoint import Checkpoint
from byzflow.engine.identity import differences
from byzflow.engine.parameter_server.plan import Cohort
from byzflow.engine.rounds.answers import Exclusion, Reason, refusal
from byzflow.engine.rounds.calls import Roster
from byzflow.engine.rounds.returns import Returns
from byzflow.engine.rounds.rota import REPAIR
from byzflow.exceptions import CheckpointError, NodeLostError

__all__ = ("SAVE", "Archive")

SAVE = "checkpoint"  # the phase of a node that is missing in one


class Archive:
    """Writes and reads the checkpoints of one run.

    Parameters
    ----------
    checkpoint : Checkpoint
        The file and the interval.
    roster : Roster
        How to reach the nodes.
    cohort : Cohort
        Who they are.
    run : str
        What kind of run it is; one of another kind is not read.

    Attributes
    ----------
    missing : dict of int to Outcome
        Nodes that have no state of the checkpoint that was read, with the reason.
    """

    def __init__(self, checkpoint: Checkpoint, roster: Roster, cohort: Cohort, run: str) -> None:
        self.missing: dict[int, Outcome] = {}
        self._run, self._is_tried = run, False
        self.checkpoint, self._roster, self._cohort = checkpoint, roster, cohort

    async def states(self, deadline: float | None, absent: Collection[int] = ()) -> Mapping[int, Outcome]:
        """Return the state of every node as it is now, but for those that are late or gone."""
        present = (index for index in range(self._cohort.n) if index not in absent)
        return await self._call("resident_state", dict.fromkeys(present, ()), deadline)

    async def try_out(self, deadline: float | None, absent: Collection[int] = ()) -> None:
        """Find out, once, whether the nodes can give their states, before anything is done in vain.

        Raises
        ------
        CheckpointError
            If an honest node cannot.
        """
        if not self._is_tried:
            for exclusion in self.refusals(await self.states(deadline, absent)).values():
                raise CheckpointError(
                    f"A checkpoint needs the state of every honest node; {exclusion.node} failed "
                    f"({exclusion.detail}). {REPAIR}"
                )
            self._is_tried = True

    def refusals(self, states: Mapping[int, Outcome]) -> dict[int, Exclusion]:
        """Return the honest nodes that have answered, but given no state."""
        found: dict[int, Exclusion] = {}
        for index, outcome in states.items():
            if outcome.error is not None and index in self._cohort.honest:
                reason, said = refusal(outcome.error, outcome.said)
                if reason not in (Reason.LOST, Reason.DEADLINE):
                    found[index] = Exclusion(self._cohort.names[index], SAVE, reason, said)
        return found

    def write(
        self,
        rounds: int,
        states: Mapping[int, Outcome],
        rule: Mapping[str, Any] | None,
        about: Mapping[str, str],
        quorum: int,
    ) -> None:
        """Write what the nodes were after this many rounds.

        One that does not answer, or gives nothing of use, has no state in it.

        Parameters
        ----------
        rounds : int
            Rounds done.
        states : mapping of int to Outcome
            What `states` has returned.
        rule : mapping or None
            What the rule remembers.
        about : mapping of str to str
            What the run is, for `read` to compare.
        quorum : int
            Nodes that a round needs, and so who goes on from here.

        Raises
        ------
        CheckpointError
            If honest nodes cannot give their states, and too few are left.
        """
        known = {index: outcome.value for index, outcome in states.items() if outcome.error is None}
        refusals = self.refusals(states)
        if refusals and len(known) < quorum:
            people = "; ".join(f"{item.node} ({item.detail})" for item in refusals.values())
            raise CheckpointError(
                f"A checkpoint needs the states of {quorum} nodes; it got {len(known)}. "
                f"Those that failed: {people}. {REPAIR}"
            )
        nodes = {name: known.get(index) for index, name in enumerate(self._cohort.names)}
        tree = {"run": self._run, "round": rounds, "about": dict(about), "nodes": nodes, "rule": rule}
        self.checkpoint.write(tree)

    async def put(self, *what: Any) -> None:
        """As `write`, in another thread; cancelled meanwhile, it ends when that has ended.

        Left to itself, it might put its file in the place of one that is written later.
        """
        writing = asyncio.get_running_loop().run_in_executor(None, partial(self.write, *what))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            while not writing.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([writing])
            writing.exception()  # which comes again when the round is gone on with
            raise

    async def read(
        self, deadline: float | None, about: Callable[[int], Mapping[str, str]], returns: Returns
    ) -> tuple[int, Mapping[str, Any] | None]:
        """Give every node its state back; return the rounds done and the rule's memory.

        Nodes whose state is not in it, and Byzantine ones that refuse it, are `missing` from then on.

        Parameters
        ----------
        deadline : float or None
            Seconds for the nodes.
        about : callable
            What this run is, from the rounds done.
        returns : Returns
            Makes nodes anew whose worker is gone: the file has all that they need.

        Raises
        ------
        CheckpointError
            If there is no such file, or it is torn, foreign, of other nodes, or of another run.
        """
        tree = self.checkpoint.read()
        self._check(tree, about)
        nodes, names = tree.get("nodes"), self._cohort.names
        if not isinstance(nodes, dict) or set(nodes) != set(names):
            count = len(nodes) if isinstance(nodes, dict) else "no"
            raise CheckpointError(
                f"{self.checkpoint.path!s} must hold the nodes of this run, {len(names)} of them from "
                f"{names[0]} to {names[-1]}; it holds {count} nodes. Make it with the same nodes."
            )
        for name, state in nodes.items():
            if not isinstance(state, tuple | None):
                raise CheckpointError(
                    f"{self.checkpoint.path!s} must hold the states of nodes; of {name} it holds a "
                    f"{type(state).__name__}. Take the checkpoint of a run."
                )
        known = {i: nodes[name] for i, name in enumerate(names) if nodes[name] is not None}
        why = "it was late, lost, or lacked an update when that was written"
        error = NodeLostError(f"the checkpoint has no state of it: {why}")
        self.missing = {i: Outcome(error=error) for i in range(len(names)) if i not in known}
        outcomes = await self._load(known, tree["round"], deadline, returns)
        for index, outcome in outcomes.items():
            if outcome.error is not None and index in self._cohort.byzantine:
                self.missing[index] = outcome
            elif outcome.error is not None:
                raise CheckpointError(
                    f"{self.checkpoint.path!s} must fit the nodes; {names[index]} refused its state "
                    f"({outcome.error!r}). Make the nodes as they were made first."
                )
        return tree["round"], tree.get("rule")

    async def _load(
        self, states: Mapping[int, tuple[Any, ...]], round: int, deadline: float | None, returns: Returns
    ) -> dict[int, Outcome]:
        """Give nodes their states, and make those anew whose worker goes; return how it went."""
        outcomes = dict(await self._call("resident_load", states, deadline))
        failed: dict[int, Outcome] = {}
        while lost := {i for i in outcomes if isinstance(outcomes[i].error, NodeLostError)} - failed.keys():
            failed |= await returns.make_anew(lost, round, deadline)
            again = {i: states[i] for i in lost - failed.keys()}
            outcomes |= {**await self._call("resident_load", again, deadline), **failed}
        return outcomes

    def _check(self, tree: Mapping[str, Any], about: Callable[[int], Mapping[str, str]]) -> None:
        path = self.checkpoint.path
        run, round = tree.get("run", self._run), tree.get("round")
        known = (tree.get("rule"), tree.get("about"))
        if run != self._run:  # files of earlier versions do not say
            raise CheckpointError(
                f"{path!s} must be of a {self._run} run; it is of a {run} one. "
                "Give this run a file of its own."
            )
        if type(round) is not int or round < 0 or not all(isinstance(part, dict | None) for part in known):
            raise CheckpointError(
                f"{path!s} must say how many rounds are done, what the rule remembers, and what the run is; "
                "it does not. Take the checkpoint of a run."
            )
        other = differences(tree.get("about") or {}, about(round))
        if other:
            raise CheckpointError(
                f"{path!s} must be of the same run; {' and '.join(other)}. Make it as it was made first; "
                "rules (a server's agg and pre, p2p_agg and p2p_pre of peers) may change when it has resumed."
            )

    async def _call(
        self, method: str, args: Mapping[int, tuple[Any, ...]], deadline: float | None
    ) -> Mapping[int, Outcome]:
        calls = {i: [Call(self._roster.seat(i).object_id, method, args[i])] for i in args}
        return await self._roster.call(calls, deadline)
