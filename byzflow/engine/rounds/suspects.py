"""Nodes that were lost with their worker: called one at a time, to see which of them takes it down."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.actor.connection import ClientClosedError
from byzflow.engine.actor.line import LineCutError
from byzflow.engine.rounds.mirrors import VectorLostError
from byzflow.exceptions import NodeLostError

__all__ = ("Send", "Suspects", "is_loss")

Send = Callable[[Any, Sequence[Sequence[Call]], float | None], Awaitable[Sequence[Sequence[Outcome]]]]
"""Takes a host, queues of calls and a deadline, as `on_host` does."""

STRIKES = 2  # workers that go when a node is called, or made anew, alone; one may be an accident


class Suspects:
    """The suspects of one round.

    When a worker is lost, nobody knows which of its nodes did it, if any. So all of them, made anew, are
    called alone: what a worker that dies then was doing is known.

    Examples
    --------
    >>> suspects = Suspects()
    >>> suspects.watch([3])
    >>> 3 in suspects, suspects.guilty
    (True, set())
    """

    def __init__(self) -> None:
        self._watched: set[int] = set()
        self._strikes: Counter[int] = Counter()

    def __contains__(self, index: int) -> bool:
        return index in self._watched

    def isdisjoint(self, indices: Iterable[int]) -> bool:
        """Whether none of these nodes is suspected."""
        return self._watched.isdisjoint(indices)

    @property
    def guilty(self) -> set[int]:
        """Nodes that took down too many workers."""
        return {index for index, count in self._strikes.items() if count >= STRIKES}

    def watch(self, indices: Collection[int]) -> None:
        """Note nodes whose worker was lost."""
        self._watched.update(indices)

    def strike(self, index: int) -> None:
        """Note that a worker went while nothing but this node was called, or made, there."""
        self._strikes[index] += 1

    def clear(self) -> None:
        """Trust everybody again, in a new round."""
        self._watched.clear()
        self._strikes.clear()

    async def deliver(
        self,
        send: Send,
        host: Any,
        indices: Sequence[int],
        queues: Sequence[Sequence[Call]],
        deadline: float | None,
    ) -> Sequence[Sequence[Outcome]]:
        """Send the queues of nodes to their host: those of suspects one by one, after all others.

        Parameters
        ----------
        send : callable
            The way to the host.
        host : object
            Where the nodes are.
        indices : sequence of int
            The node of each queue.
        queues : sequence of sequence of Call
            What to call.
        deadline : float or None
            Seconds for all of it.
        """
        if self.isdisjoint(indices):
            return await send(host, queues, deadline)
        answers: dict[int, Sequence[Outcome]] = {}
        end = None if deadline is None else time.monotonic() + deadline
        trusted = [at for at, index in enumerate(indices) if index not in self]
        for group in (trusted, *([at] for at, index in enumerate(indices) if index in self)):
            left = None if end is None else max(0.0, end - time.monotonic())
            was_lost = getattr(host, "lost", False)
            found = await send(host, [queues[at] for at in group], left) if group else []
            answers.update(zip(group, found, strict=True))
            if group is not trusted and not was_lost and any(is_loss(outcome.error) for outcome in found[0]):
                self.strike(indices[group[0]])
        return [answers[at] for at in range(len(queues))]


def is_loss(error: BaseException | None) -> bool:
    """Whether an error says that the worker went meanwhile.

    Examples
    --------
    >>> is_loss(NodeLostError("gone")), is_loss(LineCutError("the worker lives")), is_loss(None)
    (True, False, False)
    """
    kind = type(error)
    return issubclass(kind, NodeLostError) and not issubclass(
        kind, VectorLostError | LineCutError | ClientClosedError
    )
