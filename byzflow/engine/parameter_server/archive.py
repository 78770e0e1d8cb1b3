"""A run's state on disk: every node, the rule's memory and the round number, in one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.checkpoint import Checkpoint
from byzflow.engine.node.calls import Roster
from byzflow.engine.parameter_server.plan import Cohort
from byzflow.exceptions import CheckpointError

__all__ = ("Archive",)


class Archive:
    """Writes and reads the checkpoints of one server.

    Parameters
    ----------
    checkpoint : Checkpoint
        The file and the interval.
    roster : Roster
        How to reach the nodes.
    cohort : Cohort
        Who they are.
    """

    def __init__(self, checkpoint: Checkpoint, roster: Roster, cohort: Cohort) -> None:
        self.checkpoint, self._roster, self._cohort = checkpoint, roster, cohort

    async def states(self, deadline: float | None) -> Mapping[int, Outcome]:
        """Return the state of every node as it is now."""
        return await self._call("resident_state", dict.fromkeys(range(self._cohort.n), ()), deadline)

    def write(self, rounds: int, states: Mapping[int, Outcome], rule: Mapping[str, Any] | None) -> None:
        """Write what the nodes were after this many rounds.

        Raises
        ------
        CheckpointError
            If a node could not give its state.
        """
        nodes: dict[str, Any] = {}
        for index, outcome in states.items():
            name = self._cohort.names[index]
            if outcome.error is not None:
                raise CheckpointError(
                    f"A checkpoint needs the state of every node; {name} failed ({outcome.error!r}). "
                    "Repair it, or let its class give its state by state_dict() with saves_itself = True."
                )
            nodes[name] = outcome.value
        self.checkpoint.write({"round": rounds, "nodes": nodes, "rule": rule})

    async def read(self, deadline: float | None) -> tuple[int, Mapping[str, Any] | None]:
        """Give every node its state back; return the rounds done and the rule's memory.

        Raises
        ------
        CheckpointError
            If there is no such file, or it is torn, foreign, or of other nodes.
        """
        tree = self.checkpoint.read()
        nodes, names = tree.get("nodes"), self._cohort.names
        if not isinstance(nodes, dict) or set(nodes) != set(names):
            count = len(nodes) if isinstance(nodes, dict) else "no"
            raise CheckpointError(
                f"{self.checkpoint.path!s} must hold the nodes of this server, {len(names)} of them from "
                f"{names[0]} to {names[-1]}; it holds {count} nodes. Make the server with the same nodes."
            )
        outcomes = await self._call("resident_load", {i: nodes[n] for i, n in enumerate(names)}, deadline)
        for index, outcome in outcomes.items():
            if outcome.error is not None:
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
