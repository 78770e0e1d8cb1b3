"""What a node came to in a round, its error too: asked again, it comes to the same and does nothing twice."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

from byzflow.engine.rounds.forms import Digest

__all__ = ("RAISED", "UPDATE", "Memo")

RAISED = (Exception, asyncio.CancelledError, SystemExit)
"""What a node's own code may raise: it may await what was cancelled, or leave as scripts do."""

UPDATE = "apply_server_gradient"
"""The one method whose error is forgotten: a node is asked again until it has the update, and before that for
nothing that comes after it."""


class Memo:
    """The latest answer of a node for each purpose.

    Only errors of the node's own code count as answers. One that came up before that began, as when a vector
    to be shown is lost, is forgotten.

    Attributes
    ----------
    answers : dict of str to (int, object)
        Round and answer by purpose.
    placed : dict of str to Digest
        What is known of answers that were left in rows, by purpose.
    began : bool
        Whether the method was called.
    missed : int
        Round of the update that the node has failed to take; -1 if there is none.

    Examples
    --------
    >>> memo = Memo()
    >>> memo.answers["half-step"] = (3, 1.5)
    >>> memo.recall("half-step")
    1.5
    """

    __slots__ = ("answers", "began", "missed", "placed")

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.placed: dict[str, Digest] = {}
        self.began = False
        self.missed = -1

    def recall(self, key: str) -> Any:
        """Return the answer, or raise the error again."""
        answer = self.answers[key][1]
        if type(answer) is _Raised:
            raise answer.error()
        return answer

    def watched(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that notes that it was called."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.began = True
            return method(*args, **kwargs)

        return call

    def note(self, key: str, round: int, answer: Any) -> None:
        """Remember an answer."""
        self.answers[key] = round, answer
        if key == UPDATE:
            self.missed = -1

    def failed(self, key: str, round: int, error: BaseException) -> None:
        """Remember an error, if the method had begun; of an update, that the node does not have it."""
        if key == UPDATE:
            self.missed = round
        elif self.began and isinstance(error, RAISED):
            self.answers[key] = round, _Raised(error)

    async def awaited(self, key: str, round: int, answer: Awaitable[Any]) -> Any:
        """Await an answer and remember what it came to; not that whoever awaits it was cancelled."""
        try:
            value = await answer
        except BaseException as error:
            task = asyncio.current_task()
            if key == UPDATE or task is None or not task.cancelling():
                self.failed(key, round, error)
            raise
        self.note(key, round, value)
        return value

    def clear(self) -> None:
        """Forget all but the latest update, which may be asked for again in a later round."""
        update = self.answers.get(UPDATE)
        self.answers.clear()
        self.placed.clear()
        if update is not None:
            self.answers[UPDATE] = update


class _Raised:
    """An error without the frames that it went through, which hold what the node was shown."""

    __slots__ = ("_blob",)

    def __init__(self, error: BaseException) -> None:
        self._blob = pickle.dumps(error)

    def error(self) -> BaseException:
        error: BaseException = pickle.loads(self._blob)
        return error
