"""A node as its host sees it: answers each round once, is shown copies, can be saved and brought back.

Every node that a round calls, on a worker or in this process, sits in a `Resident`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from types import CoroutineType
from typing import Any

import numpy as np

from byzflow.engine.actor.calls import is_awaitable
from byzflow.engine.rounds.arena import RowRef
from byzflow.engine.rounds.attributes import State, attributes_of, frozen, take_over, thawed
from byzflow.engine.rounds.duties import declares
from byzflow.engine.rounds.harmless import guarded
from byzflow.engine.rounds.holding import brief, hold
from byzflow.engine.rounds.isolation import isolated
from byzflow.engine.rounds.memo import UPDATE, Memo
from byzflow.engine.rounds.plain import plain
from byzflow.engine.rounds.showing import copied, resolved, show

__all__ = ("ASKED", "AsyncResident", "Resident")

ASKED = (
    "resident_call",
    "resident_hold",
    "resident_read",
    "resident_tell",
)  # with round and name of the node's method


class Resident:
    """One node and what its host must remember about it.

    Attribute access reaches the node itself.

    Examples
    --------
    >>> import numpy as np
    >>> class Counter:
    ...     n = 0
    ...     def honest_gradient_for_next_batch(self):
    ...         self.n += 1
    ...         return np.full(2, self.n)
    >>> resident = Resident(Counter())
    >>> [resident.resident_call(0, "honest_gradient_for_next_batch").tolist() for _ in range(2)]
    [[1, 1], [1, 1]]
    >>> resident.resident_call(1, "honest_gradient_for_next_batch").tolist()
    [2, 2]
    """

    __slots__ = (
        *("_resident_counts", "_resident_latest", "_resident_memo", "_resident_node"),
        *("_resident_other", "_resident_reads", "_resident_run", "_resident_saves"),
    )

    def __init__(self, node: Any) -> None:
        self._resident_node = node
        self._resident_run, self._resident_latest, self._resident_memo = "", -1, Memo()
        self._resident_other: tuple[str, int, Memo] | None = None
        self._resident_counts = declares(node, "begin_round")
        self._resident_reads = bool(declares(node, "only_reads") and node.only_reads)
        self._resident_saves = bool(declares(node, "saves_itself") and node.saves_itself)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_resident_") or name in ("__getstate__", "__setstate__"):
            raise AttributeError(name)
        return getattr(self._resident_node, name)

    def resident_call(
        self,
        round: int,
        method: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        purpose: str | None = None,
        save: bool = False,
        run: str = "",
        most: int | None = None,
        own: bool = False,
    ) -> Any:
        """Call a method for a round; asked again for the same round and purpose, give the same answer.

        Rounds never go back: of one that is past, nothing runs but an update that the node does not have;
        the latest answer is given, or an error raised. Of one that comes after an update which the node has
        failed to take, nothing runs before it has that. Another run begins anew; the one before is not
        forgotten, as a late call of it may come between two of this one. Arguments are copied first,
        so that the node can change nothing that others hold, unless the node says of itself that it
        ``only_reads``. A node with ``begin_round`` is told the number. An error is an answer too, but that of
        an update: see `Memo`.

        Parameters
        ----------
        round : int
            Number of the round.
        method : str
            Name of the node's method.
        args, kwargs : sequence, mapping
            Its arguments.
        purpose : str, optional
            Tells calls of one method in one round apart, such as the receiver of a vector.
        save : bool, default False
            Return a pair of the answer and the node's state after it.
        run : str, optional
            Whose round it is: several servers may use a node, each with rounds of its own.
        most : int, optional
            Of a vector of more bytes only what is known of it is given.
        own : bool, default False
            Give a copy, which the node can no longer change, and the same when asked again: the node may hand
            out what it goes on to change.
        """
        if run != self._resident_run:
            self._resident_turn(run)
        key, memo = purpose or method, self._resident_memo
        if (known := memo.answers.get(key)) is not None and known[0] >= round:
            answer = memo.recall(key)
            if own:
                answer = _apart(answer, most)
                memo.answers[key] = known[0], answer
        elif round < self._resident_latest and key != UPDATE:
            raise RuntimeError(
                f"{method}() was asked for round {round}; the node is in round {self._resident_latest}. "
                "Ask for that one."
            )
        elif round > memo.missed >= 0:
            raise RuntimeError(
                f"{method}() was asked for round {round}; the node has not taken the update of round "
                f"{memo.missed}. Ask for that one first."
            )
        else:
            memo.began = False
            try:
                answer = guarded(self._resident_answer, round, method, args, kwargs)
                if own and type(answer) is not CoroutineType:
                    answer = _apart(answer, most)
            except BaseException as error:
                memo.failed(key, round, error)
                raise
            if type(answer) is CoroutineType:
                answer = memo.awaited(key, round, _apart_later(answer, most) if own else answer)
            else:
                memo.note(key, round, answer)
        if most is not None and answer is not None:
            answer = brief(answer, most)
        if not save:
            return answer
        if type(answer) is CoroutineType:
            return _with_state(answer, self)
        return answer, self.resident_save()

    def resident_hold(
        self,
        round: int,
        method: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        purpose: str | None = None,
        save: bool = False,
        run: str = "",
        place: RowRef | None = None,
    ) -> Any:
        """As `resident_call`, but leave the vector in a row of an arena and return its digest.

        Without a row, the vector stays with the node. Asked again for the same row, nothing is written: the
        node may have changed its vector since, and others may be reading what it sent.
        """
        answer = self.resident_call(round, method, args, kwargs, purpose, run=run)
        return self._resident_left(answer, round, place, save, (self._resident_memo, purpose or method))

    def resident_read(self, round: int, method: str, place: RowRef | None = None) -> Any:
        """Call a method that changes nothing, leave the vector in a row and return its digest."""
        return self._resident_left(self.resident_tell(round, method), round, place, save=False, memory=None)

    def resident_tell(self, round: int, method: str, most: int | None = None) -> Any:
        """Call a method that changes nothing; `most` as in `resident_call`."""
        answer = guarded(lambda: getattr(self._resident_node, method)())
        return answer if most is None else brief(answer, most)

    def resident_methods(self, names: Sequence[str]) -> list[str]:
        """Return those of `names` that the node has a method of."""
        node = self._resident_node
        return [*guarded(lambda: [name for name in names if callable(getattr(node, name, None))], made=list)]

    def _resident_answer(
        self, round: int, method: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None
    ) -> Any:
        if round > self._resident_latest:
            self._resident_memo.clear()
            self._resident_latest = round
        if self._resident_counts:
            self._resident_node.begin_round(round)
        call = getattr(self._resident_node, method)
        if self._resident_reads:
            args, kwargs = resolved(tuple(args)), resolved(dict(kwargs or {}))
        elif kwargs or (own := copied(args)) is None:
            return show(self._resident_memo.watched(call), tuple(args), dict(kwargs or {}))
        else:
            args = own
        self._resident_memo.began = True
        return call(*args, **kwargs) if kwargs else call(*args)

    def _resident_left(
        self, answer: Any, round: int, place: RowRef | None, save: bool, memory: tuple[Memo, str] | None
    ) -> Any:
        """Leave a vector in a row, unless it is there or that may belong to another round by now.

        Return its digest, and note it in a memo, under a key, if there is one.
        """
        if is_awaitable(answer):
            return _left(answer, self, round, place, save, memory)
        known = memory[0].placed.get(memory[1]) if memory else None
        if known is not None and known.row == place:
            digest = known
        else:
            is_late = self._resident_latest > round
            digest = hold(answer, None if is_late else place)
            if memory and digest.row is not None:
                memory[0].placed[memory[1]] = digest
            elif memory and place is not None and not is_late:  # the vector itself may be asked for
                memory[0].answers[memory[1]] = round, _apart(answer, place.site.signature.ceiling)
        return (digest, self.resident_save()) if save else digest

    def resident_state(self) -> tuple[str, Any]:
        """Return what makes the node go on as it would have: a kind, and all its attributes, pickled.

        A node that says of itself that it ``saves_itself`` gives its ``state_dict`` instead.
        """
        if self._resident_saves:
            return "state_dict", guarded(lambda: self._resident_node.state_dict(), made=plain)
        return "attributes", guarded(lambda: frozen(attributes_of(self._resident_node), self._resident_node))

    def resident_load(self, kind: str, content: Any) -> None:
        """Take up a state that `resident_state` returned.

        Raises
        ------
        TypeError
            If it is of another kind than this node's.
        """
        own = "state_dict" if self._resident_saves else "attributes"
        if kind != own:
            raise TypeError(
                f"A {type(self._resident_node).__name__} needs a state of kind {own}; got {kind}."
            )
        self._resident_take(lambda: content if self._resident_saves else self._resident_thawed(content))

    def resident_save(self) -> State:
        """Return the state as bytes."""
        kind, content = self.resident_state()
        return frozen(content) if kind == "state_dict" else np.asarray(content)

    def resident_restore(self, state: State) -> None:
        """Take up a state that `resident_save` returned."""
        self._resident_take(lambda: self._resident_thawed(state))

    def _resident_thawed(self, state: State) -> Any:
        return thawed(state, self._resident_node)

    def _resident_take(self, content: Callable[[], Any]) -> None:
        node, saves = self._resident_node, self._resident_saves
        guarded(lambda: node.load_state_dict(content()) if saves else take_over(node, content()))
        self._resident_forget()

    def _resident_forget(self) -> None:
        """Begin anew: there has been no round yet, of any run."""
        self._resident_latest, self._resident_memo, self._resident_other = -1, Memo(), None

    def _resident_turn(self, run: str) -> None:
        """Go on with the run before this one, or begin another."""
        left = (self._resident_run, self._resident_latest, self._resident_memo)
        known = self._resident_other
        if known is None or known[0] != run:
            known = (run, -1, Memo())
        self._resident_run, self._resident_latest, self._resident_memo = known
        self._resident_other = left


def _in_turn(name: str) -> Callable[..., Awaitable[Any]]:
    """Return a method of a `Resident` as a coroutine that waits for those that were called before."""

    @wraps(getattr(Resident, name))
    async def method(self: AsyncResident, *args: Any, **kwargs: Any) -> Any:
        async with self._turn:
            answer = getattr(self._resident, name)(*args, **kwargs)
            return await answer if is_awaitable(answer) else answer

    return method


class AsyncResident:
    """A `Resident` whose host keeps an event loop for it, so that a waiting method lets the next call in.

    Only calls of rounds wait for each other, and for a state that is saved or taken up: until one that is
    late is over, nobody knows what the next may do.
    """

    __slots__ = ("_resident", "_turn")

    def __init__(self, node: Any) -> None:
        self._resident = Resident(node)
        self._turn = asyncio.Lock()

    def __getattr__(self, name: str) -> Any:
        if name in AsyncResident.__slots__:
            raise AttributeError(name)
        return getattr(self._resident, name)

    resident_call = _in_turn("resident_call")
    resident_hold = _in_turn("resident_hold")
    resident_read = _in_turn("resident_read")
    resident_tell = _in_turn("resident_tell")
    resident_state = _in_turn("resident_state")
    resident_load = _in_turn("resident_load")
    resident_save = _in_turn("resident_save")
    resident_restore = _in_turn("resident_restore")


def _apart(answer: Any, most: int | None) -> Any:
    """Return a copy of an answer, unless it is too large to be given."""
    return answer if most is not None and getattr(answer, "nbytes", 0) > most else isolated(answer)


async def _apart_later(answer: Awaitable[Any], most: int | None) -> Any:
    return _apart(await answer, most)


async def _left(answer: Awaitable[Any], resident: Resident, *left: Any) -> Any:
    return resident._resident_left(await answer, *left)


async def _with_state(answer: Awaitable[Any], resident: Resident) -> tuple[Any, State]:
    return await answer, resident.resident_save()
