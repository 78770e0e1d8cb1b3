"""A run's state on disk: every node, the rule's memory and the round number, in one checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.checkpoint import Checkpoint
from byzflow.engine.node.answers import Reason, refusal
from byzflow.engine.node.calls import Roster
from byzflow.engine.parameter_server.plan import Cohort
from byzflow.exceptions import CheckpointError, NodeLostError

__all__ = ("Archive",)


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
        self._run = run
        self.checkpoint, self._roster, self._cohort = checkpoint, roster, cohort

    async def states(self, deadline: float | None, absent: Collection[int] = ()) -> Mapping[int, Outcome]:
        """Return the state of every node as it is now, but for those that are late or gone."""
        present = (index for index in range(self._cohort.n) if index not in absent)
        return await self._call("resident_state", dict.fromkeys(present, ()), deadline)

    def write(self, rounds: int, states: Mapping[int, Outcome], rule: Mapping[str, Any] | None) -> None:
        """Write what the nodes were after this many rounds.

        One that does not answer has no state, nor has a Byzantine one that gives nothing of use.

        Raises
        ------
        CheckpointError
            If an honest node cannot give its state.
        """
        nodes: dict[str, Any] = dict.fromkeys(self._cohort.names)
        for index, outcome in states.items():
            name, reason = self._cohort.names[index], None
            if outcome.error is not None:
                reason, said = refusal(outcome.error, outcome.said)
            if reason in (Reason.LOST, Reason.DEADLINE) or (reason and index in self._cohort.byzantine):
                continue
            if reason is not None:
                raise CheckpointError(
                    f"A checkpoint needs the state of every node; {name} failed ({said}). "
                    "Repair it, or let its class give its state by state_dict() with saves_itself = True."
                )
            nodes[name] = outcome.value
        self.checkpoint.write({"run": self._run, "round": rounds, "nodes": nodes, "rule": rule})

    async def read(self, deadline: float | None) -> tuple[int, Mapping[str, Any] | None]:
        """Give every node its state back; return the rounds done and the rule's memory.

        Nodes whose state is not in it, and Byzantine ones that refuse it, are `missing` from then on.

        Raises
        ------
        CheckpointError
            If there is no such file, or it is torn, foreign, or of other nodes.
        """
        tree = self.checkpoint.read()
        run = tree.get("run", self._run)  # files of earlier versions do not say
        if run != self._run:
            raise CheckpointError(
                f"{self.checkpoint.path!s} must be of a {self._run} run; it is of a {run} one. "
                "Give this run a file of its own."
            )
        nodes, names = tree.get("nodes"), self._cohort.names
        if not isinstance(nodes, dict) or set(nodes) != set(names):
            count = len(nodes) if isinstance(nodes, dict) else "no"
            raise CheckpointError(
                f"{self.checkpoint.path!s} must hold the nodes of this server, {len(names)} of them from "
                f"{names[0]} to {names[-1]}; it holds {count} nodes. Make the server with the same nodes."
            )
        known = {i: nodes[name] for i, name in enumerate(names) if nodes[name] is not None}
        error = NodeLostError("the checkpoint has no state of it; it did not answer when that was written")
        self.missing = {i: Outcome(error=error) for i in range(len(names)) if i not in known}
        outcomes = await self._call("resident_load", known, deadline)
        for index, outcome in outcomes.items():
            if outcome.error is not None and index in self._cohort.byzantine:
                self.missing[index] = outcome
            elif outcome.error is not None:
                raise CheckpointError(
                    f"{self.checkpoint.path!s} must fit the nodes; {names[index]} refused its state "
                    f"({outcome.error!r}). Make the nodes as they were made first."
                )
        return int(tree["round"]), tree["rule"]

    async def _call(
        self, method: str, args: Mapping[int, tuple[Any, ...]], deadline: float | None
    ) -> Mapping[int, Outcome]:
        calls = {i: [Call(self._roster.seat(i).object_id, method, args[i])] for i in args}
        return await self._roster.call(calls, deadline)
