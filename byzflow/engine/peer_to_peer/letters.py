"""The vectors of one round on their way, judged on arrival, and everybody who was left out, with reasons."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from byzflow.engine.actor.columns import Columns
from byzflow.engine.parameter_server.archive import SAVE
from byzflow.engine.rounds.answers import Answered, Exclusion, Reason, judge, refusal
from byzflow.engine.rounds.forms import Digest, Signature, digest_of, norms_of

__all__ = ("AGGREGATE", "ATTACK", "EXCHANGE", "HALF_STEP", "Came", "Kept", "Letters", "measured")

HALF_STEP, ATTACK, EXCHANGE, AGGREGATE = "half-step", "attack", "exchange", "aggregation"
_PHASES = (HALF_STEP, ATTACK, EXCHANGE, AGGREGATE, SAVE)


@dataclass(frozen=True, slots=True)
class Came:
    """A value or an error, as `Answered` wants it.

    Examples
    --------
    >>> Came(error=ValueError("no")).value is None
    True
    """

    value: Any = None
    error: BaseException | None = None
    said: str | None = None


class Kept(Came):
    """The digest of a vector that has been measured, as where it was made and stayed; or an error.

    Only the engine makes these, so that no node can pass one off as its answer.
    """

    __slots__ = ()


class Letters:
    """What was sent by whom to whom in one round.

    A vector is looked at once, when it is posted: it must be a real, finite tensor or array. Whether it has
    the form of the receiver's own vector is a question per edge; each receiver judges by its own vector, so
    that nobody, and no majority of liars, chooses the form for others.

    Parameters
    ----------
    names : sequence of str
        Name of every node, by index.

    Examples
    --------
    >>> import numpy as np
    >>> letters = Letters(["a", "b", "c"])
    >>> for node, value in enumerate([np.zeros(2), np.ones(3), [1.0]]):
    ...     letters.post(node, Came(value), "half-step")
    >>> letters.fit((1, 2), 0)
    ()
    >>> for exclusion in letters.excluded:
    ...     print(exclusion)
    c (half-step, type: expected a real tensor or array, got list)
    b (exchange, shape: expected (2,), got (3,) (refused by a))
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.first_error: BaseException | None = None
        self._letters: dict[int, Digest] = {}
        self._private: dict[tuple[int, int], Digest] = {}
        self._excluded: dict[tuple[int, int, int], Exclusion] = {}
        self._refused: dict[tuple[int, Reason, str], list[int]] = {}
        self._forms: dict[int, Signature] = {}

    def post(self, sender: int, outcome: Answered, phase: str, receiver: int | None = None) -> None:
        """Take what `sender` answers, for one receiver or for all."""
        letter = _measured(outcome) or self._judged(sender, outcome, phase, receiver)
        if letter is None:
            return
        if receiver is None:
            self._letters[sender] = letter
        else:
            self._private[sender, receiver] = letter
        if phase == HALF_STEP and letter.signature is not None:
            self._forms[sender] = letter.signature

    def undelivered(self, sender: int, receiver: int, error: BaseException) -> None:
        """Record that what `sender` sent did not reach `receiver`."""
        self._refused.setdefault((sender, *refusal(error)), []).append(receiver)

    def failed(self, node: int, error: BaseException, said: str | None = None) -> Exclusion:
        """Record that a node could not aggregate, and what its error said."""
        exclusion = Exclusion(self.names[node], AGGREGATE, *refusal(error, said))
        self._exclude(node, None, exclusion, error)
        return exclusion

    def unsaved(self, exclusions: Mapping[int, Exclusion]) -> None:
        """Record who is missing in the checkpoint of the round."""
        for node, exclusion in exclusions.items():
            self._exclude(node, None, exclusion, None)

    def has(self, sender: int) -> bool:
        """Whether `sender` has posted a fit vector for all."""
        return sender in self._letters

    def vector(self, sender: int) -> Any:
        """Return what `sender` sent to all; KeyError if nothing fit came."""
        return self._letters[sender].row

    def vectors(self, senders: Sequence[int], receiver: int) -> list[Any]:
        """Return what each of `senders` sent to `receiver`; KeyError if nothing fit came."""
        if not self._private:
            return [self._letters[sender].row for sender in senders]
        return [(self._private.get((j, receiver)) or self._letters[j]).row for j in senders]

    def fit(self, senders: tuple[int, ...], receiver: int) -> tuple[int, ...]:
        """Return those of `senders` whose vector has the form of the receiver's own; misfits are recorded."""
        own = self._letters[receiver].signature
        sent = zip(senders, self._sent(senders, receiver), strict=True)
        fit = [
            j for j, letter in sent if letter and (letter.signature is own or self._fits(j, letter, receiver))
        ]
        return senders if len(fit) == len(senders) else tuple(fit)

    @property
    def everything(self) -> list[Any]:
        """Every fit vector that was sent."""
        letters = (*self._letters.values(), *self._private.values())
        return [letter.row for letter in letters if letter.row is not None]

    @property
    def forms(self) -> frozenset[Signature]:
        """The forms of the half steps."""
        return frozenset(self._forms.values())

    @property
    def usual(self) -> Signature | None:
        """The form that most half steps have."""
        forms = Counter(self._forms.values())
        return max(forms, key=forms.__getitem__) if forms else None

    @property
    def excluded(self) -> tuple[Exclusion, ...]:
        """Everybody left out, by phase and node; a refused vector tells by how many nodes.

        Where nodes refuse each other, those with the rarer form are named, not those that they refuse.
        """
        found, usual = list(self._excluded.items()), self.usual
        for (sender, reason, detail), refusing in self._refused.items():
            receivers = [i for i in refusing if self._forms.get(i, usual) == usual]
            if not receivers:
                continue
            by = self.names[receivers[0]] if len(receivers) == 1 else f"{len(receivers)} nodes"
            exclusion = Exclusion(self.names[sender], EXCHANGE, reason, f"{detail} (refused by {by})")
            found.append(((_PHASES.index(EXCHANGE), sender, receivers[0]), exclusion))
        return tuple(exclusion for _, exclusion in sorted(found, key=lambda item: item[0]))

    @property
    def sizes(self) -> dict[tuple[int, int | None], int]:
        """Bytes of what was sent, by sender and receiver (None: all)."""
        letters = [
            *self._private.items(),
            *(((sender, None), letter) for sender, letter in self._letters.items()),
        ]
        return {way: letter.signature.nbytes for way, letter in letters if letter.signature is not None}

    @property
    def norms(self) -> tuple[float | None, ...]:
        """Norm of what every node sent, the largest where it sent several; None where nothing fit came."""
        norms: list[float | None] = [None] * len(self.names)
        for node, letter in self._letters.items():
            norms[node] = letter.norm
        for (node, _), letter in self._private.items():
            norms[node] = max(letter.norm, norms[node] or 0.0)
        return tuple(norms)

    def who(self) -> str:
        """One sentence that names the excluded."""
        people = self.excluded
        more = f" and {len(people) - 20} more" if len(people) > 20 else ""
        return f"Excluded: {'; '.join(map(str, people[:20])) or 'nobody'}{more}."

    def _sent(self, senders: Iterable[int], receiver: int) -> Iterable[Digest | None]:
        """What each of `senders` sent to `receiver`; None where nothing fit came."""
        if not self._private:
            return map(self._letters.get, senders)
        return (self._private.get((j, receiver)) or self._letters.get(j) for j in senders)

    def _fits(self, sender: int, letter: Digest, receiver: int) -> bool:
        own = self._letters[receiver].signature
        if letter.signature == own:
            return True
        misfit = judge({sender: Came(letter)}, self.names, EXCHANGE, own, held=True).excluded[sender]
        self._refused.setdefault((sender, misfit.reason, misfit.detail), []).append(receiver)
        return False

    def _judged(self, sender: int, outcome: Answered, phase: str, receiver: int | None) -> Digest | None:
        verdict = judge({sender: outcome}, self.names, phase, held=isinstance(outcome, Kept))
        if sender in verdict.vectors:
            return Digest(verdict.signature, verdict.norms[sender], verdict.vectors[sender])
        self._exclude(sender, receiver, verdict.excluded[sender], outcome.error)
        return None

    def _exclude(
        self, node: int, receiver: int | None, exclusion: Exclusion, error: BaseException | None
    ) -> None:
        key = (_PHASES.index(exclusion.phase), node, -1 if receiver is None else receiver)
        self._excluded[key] = exclusion
        self.first_error = self.first_error or error


def _measured(outcome: Answered) -> Digest | None:
    """Return what is known of a vector that was measured, as of nearly every one, if it is one and finite."""
    if not isinstance(outcome, Kept) or outcome.error is not None:
        return None
    known: Digest = outcome.value
    is_fit = known.signature is not None and known.row is not None and math.isfinite(known.norm)
    return known if is_fit else None


def measured(came: Sequence[Answered]) -> list[Answered]:
    """Measure small vectors of one form at once, as that takes long one by one; all else stays as it came.

    Examples
    --------
    >>> import numpy as np
    >>> came = measured([Came(np.array([3.0, 4.0])), Came(np.zeros(2)), Came("text")])
    >>> came[0].value.norm, came[2]
    (5.0, Came(value='text', error=None, said=None))
    """
    found = list(came)
    values = [None if out.error is not None or isinstance(out, Kept) else out.value for out in came]
    for at, stack in Columns(values, {}).stacks:
        form = digest_of(stack.matrix[0, ...]).signature
        if form is not None:
            for i, norm, row in zip(at, norms_of(stack.matrix), stack.rows(), strict=True):
                found[i] = Kept(Digest(form, norm, row))  # where it came in is free for other answers
    return found
