"""What brings lost peers back: their last state, and every call since then that changed them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dask.utils import parse_bytes

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.config import setting
from byzflow.engine.parameter_server.plan import Cohort
from byzflow.engine.peer_to_peer.peers import Peers
from byzflow.engine.rounds.attributes import State, kept
from byzflow.engine.rounds.returns import Returns, patience
from byzflow.engine.rounds.rota import OBJECT, Rota
from byzflow.exceptions import DeadlineError, NodeLostError

__all__ = ("PeerMemory",)

CHANGING = ("resident_call", "resident_hold")
"""Methods of a `Resident` after which a node is another one."""


@dataclass(slots=True)
class _Past:
    """A node as it was, and what it was asked since; there is no `state` if it was as it had been made.

    A later state may have been `tried` in vain.
    """

    since: int
    state: State | None
    queues: list[Sequence[Call]] = field(default_factory=list)
    tried: int = -1

    @property
    def size(self) -> int:
        """Bytes of the state."""
        return 0 if self.state is None else len(self.state)


class PeerMemory:
    """Snapshots of the nodes that live in other processes, and the calls since.

    A lost node is made anew, takes up its snapshot, and is asked again whatever it was asked since, with the
    very vectors it got then: it ends bit for bit where it was, and no other node notices. One that gives no
    state is asked from an older one on, or from how it was made, while those vectors fit
    ``byzflow.round.replay-memory``.

    Parameters
    ----------
    peers : Peers
        How to reach the nodes.
    every : int
        Rounds between snapshots of a node.
    """

    def __init__(self, peers: Peers, every: int) -> None:
        self.returns = Returns(peers.roster)
        self._peers, self._rota = peers, Rota(len(peers), every)
        self._names = Cohort(peers.n_honest, len(peers) - peers.n_honest).names
        self._patience = every + int(setting("round.backlog"))
        self._pasts: dict[int, _Past] = {}
        self._number = 0
        self._sizes: dict[int, dict[int, int]] = {}
        self._budget = parse_bytes(setting("round.replay-memory"))

    def knows(self, index: int) -> bool:
        """Whether this node can be brought back."""
        return index in self._pasts

    def oldest(self, number: int) -> int:
        """Return the first round of which calls are kept; `number` if none are."""
        return min((past.since for past in self._pasts.values()), default=number)

    def begin(self, number: int) -> None:
        """Note that a run begins: nodes that nobody has called are known without being asked."""
        away = [i for i in range(len(self._peers)) if not self._peers.is_here(i)]
        self._pasts |= {i: _Past(number, None) for i in self._peers.roster.untouched(away)}

    async def keep(self, number: int, deadline: float | None) -> None:
        """Take snapshots before a round of whom it is time; one that cannot be saved stays as it is kept."""
        if self.returns.pending:  # the round before was cancelled on the way
            self._peers.gone |= await self.bring_back((), number, deadline)
        self._number = number
        costly = self._oldest() if self._is_full() else []
        self._give_up(number, costly)
        due = self._rota.due(number, costly)
        away = [i for i in due if i not in self._peers.absent and not self._peers.is_here(i)]
        if away:
            await self._save(away, number, deadline, costly)
        sizes = {i: self._pasts[i].size if self.knows(i) else 0 for i in due}
        self._rota.saved(number, sizes)
        oldest = self.oldest(number)
        self._sizes = {past: sizes for past, sizes in self._sizes.items() if past >= oldest}

    def _give_up(self, number: int, costly: Collection[int]) -> None:
        """Forget nodes that are gone for good, or for so long that too many vectors are kept for them."""
        for index in [i for i in self._pasts if i in self._peers.gone]:
            past = self._pasts[index]
            if index in costly or number - max(past.since, past.tried) > self._patience:
                self.returns.give_up([index])
            if index not in self.returns.stranded:
                del self._pasts[index]

    def _is_full(self, beside: int = 0) -> bool:
        """Whether the vectors are too many, where each takes some bytes beside its own."""
        sizes = self._sizes.values()
        return sum(size + beside for found in sizes for size in found.values()) >= self._budget

    def _oldest(self) -> list[int]:
        """Return the nodes for whose sake most is kept."""
        oldest = self.oldest(0)
        return [i for i, past in self._pasts.items() if past.since == oldest]

    async def _save(
        self, indices: Collection[int], number: int, deadline: float | None, costly: Collection[int]
    ) -> None:
        saves = {i: (i, [self._peers.read(i, "resident_save")]) for i in indices}
        outcomes = {i: outcome for i, (outcome,) in (await self._peers.call(saves, deadline)).items()}
        older = set[int]() if self._is_full(OBJECT) else self._pasts.keys() - {*costly}
        failed = self._rota.refused(outcomes, self._names, older)
        left = failed & older
        for index, outcome in outcomes.items():
            if index in left:
                self._pasts[index].tried = number
            elif index in failed:
                self._pasts.pop(index, None)
            elif outcome.error is None:
                self._pasts[index] = _Past(number, kept(outcome.value))

    def done(self, queues: Iterable[tuple[int, Sequence[Call]]], vectors: Iterable[Any]) -> None:
        """Note calls of nodes, for those that can be brought back, and the vectors that may be in them."""
        known = False
        for index, queue in queues:
            if (past := self._pasts.get(index)) is not None:
                past.queues.append(queue)
                known = True
        if known:
            sizes = self._sizes.setdefault(self._number, {})
            sizes.update({id(v): int(v.nbytes) for v in vectors if id(v) not in sizes})

    async def bring_back(
        self, indices: Collection[int], number: int, deadline: float | None, *, patient: bool = True
    ) -> dict[int, Outcome]:
        """Make nodes anew on live workers and let them catch up; see `Returns.bring_back`.

        Returns
        -------
        dict of int to Outcome
            Only the nodes that could not be brought back, with the reason.
        """
        catch_up = partial(self._catch_up, deadline=deadline)
        wait = patience(deadline) if patient else 0.0
        return await self.returns.bring_back(indices, number, self._state, catch_up, patience=wait)

    def _state(self, index: int) -> State | None:
        return self._pasts[index].state

    async def _catch_up(self, indices: Collection[int], deadline: float | None) -> dict[int, Outcome]:
        """Bring nodes that took up their states to where they were; one that takes too long is behind."""
        failed: dict[int, Outcome] = {}
        pasts = {i: (i, self._replay(i)) for i in indices}
        for index in indices:
            self._peers.settled(index)
        outcomes = await self._peers.call({i: past for i, past in pasts.items() if past[1]}, deadline)
        for index, answers in outcomes.items():
            lost = next((out for out in answers if isinstance(out.error, NodeLostError)), None)
            if lost is not None:
                failed[index] = lost
            elif any(isinstance(out.error, DeadlineError) for out in answers):
                self._peers.behind[index] = pasts[index][1]
        return failed

    def _replay(self, index: int) -> list[Call]:
        object_id = self._peers.roster.seat(index).object_id
        calls = (call for queue in self._pasts[index].queues for call in queue if call.method in CHANGING)
        return [dataclasses.replace(call, object_id=object_id) for call in calls]
