"""Makes the calls of a wave, and makes them again for nodes that went with their worker and came back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.peer_to_peer.memory import PeerMemory
from byzflow.engine.peer_to_peer.messages import Instruction
from byzflow.engine.peer_to_peer.peers import Peers
from byzflow.engine.rounds.mirrors import VectorLostError
from byzflow.engine.rounds.outcomes import errors_of
from byzflow.exceptions import DeadlineError, NodeLostError

__all__ = ("Delivery",)


class Delivery:
    """The way to the nodes for one round.

    Parameters
    ----------
    peers : Peers
        Who is called.
    memory : PeerMemory
        Brings lost nodes back.
    number : int
        Number of the round.
    deadline : float or None
        Seconds for the answers in one wave.

    Attributes
    ----------
    respawned : set of int
        Nodes that were brought back.
    """

    def __init__(self, peers: Peers, memory: PeerMemory, number: int, deadline: float | None) -> None:
        self._peers, self._memory, self._number, self._deadline = peers, memory, number, deadline
        self.respawned: set[int] = set()

    async def outcomes(
        self,
        tasks: Sequence[Instruction],
        calls_of: Callable[[Sequence[Instruction]], Mapping[Instruction, Sequence[Call]]],
        shown_to: Callable[[Sequence[Instruction]], Sequence[Any]],
    ) -> dict[Instruction, Sequence[Outcome]]:
        """Return what the calls of every instruction came to; one that needs no call is left out.

        Parameters
        ----------
        tasks : sequence of Instruction
            What to do, side by side.
        calls_of : callable
            The calls of instructions, as the nodes sit now.
        shown_to : callable
            The vectors that may be in those calls.
        """
        found: dict[Instruction, Sequence[Outcome]] = {}
        todo = list(tasks)
        while todo:
            calls = {task: (task.node, queue) for task, queue in calls_of(todo).items()}
            outcomes = await self._peers.call(calls, self._deadline)
            errors = {task: raised for task in calls if (raised := errors_of(outcomes[task]))}
            missed = {task for task, raised in errors.items() if _has(raised, NodeLostError | DeadlineError)}
            done = [queue for task, queue in calls.items() if task not in missed]
            self._memory.done(done, shown_to(todo))
            found |= outcomes
            lost = {task for task in missed if _has(errors[task], NodeLostError)}
            waiting = {task for task in lost if _has(errors[task], VectorLostError)}
            back = await self.bring_back({task.node for task in lost - waiting}) if lost else set()
            given_up = {task: self._peers.gone[task.node] for task in lost if task.node in self._peers.gone}
            found |= {task: [outcome] * len(found[task]) for task, outcome in given_up.items()}
            todo = [
                task for task in todo if task in lost and (task.node in back or (task in waiting and back))
            ]
        return found

    async def call_back(self) -> None:
        """Try again with nodes that may come back; wait for one if there are no others."""
        again, is_deserted = self._memory.returns.recall(self._peers.gone, self._number)
        if again:
            await self.bring_back(again, patient=is_deserted)

    async def bring_back(self, found: set[int], *, patient: bool = True) -> set[int]:
        """Make lost nodes anew; those for which that fails are gone. Return the others."""
        lost = (found | self._peers.roster.lost()) - self._peers.gone.keys()
        known = {i for i in lost if self._memory.knows(i)}
        failed = await self._memory.bring_back(known, self._number, self._deadline, patient=patient)
        for index in lost - known:
            failed[index] = Outcome(error=NodeLostError("its worker is gone, and its state was not kept"))
        self._peers.gone |= failed
        self.respawned |= known - failed.keys()
        return known - failed.keys()


def _has(errors: Iterable[BaseException], kind: Any) -> bool:
    return any(isinstance(error, kind) for error in errors)
