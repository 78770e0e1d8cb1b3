"""What a node may answer: reading one outcome, agreeing on a form, and saying why an answer is refused.

Pure functions on values; how the answers travelled is not this module's business. Nothing here raises,
whatever the values are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import itemgetter
from typing import Any, Protocol, TypeVar

from byzflow.engine.actor.calls import Recorder, text_of
from byzflow.engine.actor.stack import Stack
from byzflow.engine.rounds.forms import Digest, Signature, digest_of, norm_of, norms_of
from byzflow.engine.rounds.outcomes import NodeOutcomes
from byzflow.engine.rounds.vectors import Vectors
from byzflow.exceptions import DeadlineError, NodeError, NodeLostError

__all__ = (
    "Answered",
    "Exclusion",
    "Reason",
    "Verdict",
    "judge",
    "refusal",
    "remedy",
)


T = TypeVar("T")


class Reason(StrEnum):
    """Why a node's answer is not used."""

    RAISED = "raised"
    LOST = "lost"
    DEADLINE = "deadline"
    TYPE = "type"
    SHAPE = "shape"
    DEVICE = "device"
    DTYPE = "dtype"
    NONFINITE = "non-finite"


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One node left out of one phase of a round, and why.

    Examples
    --------
    >>> print(Exclusion("honest-3", "gradients", Reason.SHAPE, "expected (4,), got (3,)"))
    honest-3 (gradients, shape: expected (4,), got (3,))
    """

    node: str
    phase: str
    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.node} ({self.phase}, {self.reason}{': ' if self.detail else ''}{self.detail})"


def remedy(excluded: Sequence[Exclusion], otherwise: str) -> str:
    """Return what to do where these nodes are all that could have answered.

    Examples
    --------
    >>> remedy([Exclusion("honest-0", "gradients", Reason.NONFINITE)], "Wait.")
    'Their models have diverged: lower the step length, or take a rule that withstands the liars.'
    """
    if excluded and all(exclusion.reason is Reason.NONFINITE for exclusion in excluded):
        return "Their models have diverged: lower the step length, or take a rule that withstands the liars."
    return otherwise


class Answered(Protocol):
    """What a call to a node came to: a value, or the error that took its place."""

    @property
    def value(self) -> Any:
        """What the node returned."""

    @property
    def error(self) -> BaseException | None:
        """What it raised, or what the way to it raised."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answers of one phase, sorted into fit vectors and exclusions.

    Attributes
    ----------
    vectors : mapping of int to array
        Fit vectors by node index, in node order; `Vectors` if all came in stacks.
    norms : dict of int to float
        Euclidean norm of each fit vector.
    signature : Signature or None
        The form they share; None if there is none.
    excluded : dict of int to Exclusion
        The rest, by node index.
    """

    vectors: Mapping[int, Any] = field(default_factory=dict)
    norms: dict[int, float] = field(default_factory=dict)
    signature: Signature | None = None
    excluded: dict[int, Exclusion] = field(default_factory=dict)


def refusal(error: BaseException, said: str | None = None) -> tuple[Reason, str]:
    """Sort an error into a reason and one line of text.

    Parameters
    ----------
    error : BaseException
        The error.
    said : str, optional
        Its text, if that is known; it may fail, or never end, when it is asked for.

    Examples
    --------
    >>> refusal(ZeroDivisionError("division by zero"))
    (<Reason.RAISED: 'raised'>, 'ZeroDivisionError: division by zero')
    """
    kind = type(error)
    text = text_of(error) if said is None else said
    if issubclass(kind, NodeLostError):
        return Reason.LOST, text
    if issubclass(kind, DeadlineError):
        return Reason.DEADLINE, text or "no answer in time"
    if kind is NodeError:
        return Reason.RAISED, text
    return Reason.RAISED, f"{type.__getattribute__(kind, '__name__')[:200]}: {text}"


def judge(
    outcomes: Mapping[int, Answered],
    names: Sequence[str],
    phase: str,
    expected: Signature | None = None,
    *,
    held: bool = False,
) -> Verdict:
    """Sort the outcomes of one phase into fit vectors and exclusions.

    Without `expected`, the form that most answers share is the right one (ties: the lowest node), so that
    one liar cannot choose it.

    Parameters
    ----------
    outcomes : mapping of int to Answered
        What each asked node came to, by node index.
    names : sequence of str
        Name of every node, by index.
    phase : str
        Goes into the exclusions.
    expected : Signature or None
        The form that is right; None to find it by majority.
    held : bool, default False
        Whether the vectors stayed with their hosts, which answered with a `Digest` for each.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace as Outcome
    >>> good = [Outcome(value=np.full(2, float(i)), error=None) for i in range(3)]
    >>> bad = Outcome(value=np.array([np.nan, 0.0]), error=None)
    >>> verdict = judge(dict(enumerate([*good, bad])), ["a", "b", "c", "d"], "gradients")
    >>> sorted(verdict.vectors), str(verdict.excluded[3])
    ([0, 1, 2], 'd (gradients, non-finite: an entry is NaN or infinite)')
    """
    known = NodeOutcomes.of(outcomes)
    said = known.said
    excluded = {
        i: Exclusion(names[i], phase, *refusal(error, said.get(i))) for i, error in known.errors.items()
    }
    forms: dict[Signature, list[_Same]] = {}
    for same in _alike(known, held):
        if same.digest.signature is not None:
            forms.setdefault(same.digest.signature, []).append(same)
            continue
        detail = f"expected a real tensor or array, got {same.digest.kind}"
        excluded.update((i, Exclusion(names[i], phase, Reason.TYPE, detail)) for i in same.nodes)
    right = expected or _majority(forms)
    fit = forms.pop(right, []) if right else []
    for form, parts in forms.items():
        why = _mismatch(form, right)
        excluded.update((i, Exclusion(names[i], phase, *why)) for same in parts for i in same.nodes)
    vectors, norms, unfit = _measured(fit, held)
    excluded.update((i, Exclusion(names[i], phase, *why)) for i, why in unfit.items())
    return Verdict(vectors, norms, right, _in_order(excluded))


@dataclass(frozen=True, slots=True)
class _Same:
    """Answers of one form: the vector of one node, or a stack of those of many."""

    nodes: Sequence[int]
    digest: Digest
    stack: Stack | None = None

    def norms(self, held: bool) -> tuple[Sequence[float], BaseException | None]:
        """Return the norm of each vector, infinite if it cannot be measured, and why not."""
        if self.stack is not None:
            return norms_of(self.stack.matrix), None
        norm, error = (self.digest.norm, None) if held else _norm(self.digest.row)
        return (norm,), error

    def vectors(self) -> Sequence[Any]:
        """Return the vectors."""
        return (self.digest.row,) if self.stack is None else self.stack.rows()


def _alike(outcomes: NodeOutcomes, held: bool) -> list[_Same]:
    """Return the answers by form, as far as that costs nothing."""
    stacks = [_Same(at, digest_of(stack.matrix[0, ...]), stack) for at, stack in outcomes.stacks]
    others = outcomes.others.items()
    return [*stacks, *(_Same((i,), value if held else digest_of(value)) for i, value in others)]


def _measured(
    parts: Sequence[_Same], held: bool
) -> tuple[Mapping[int, Any], dict[int, float], dict[int, tuple[Reason, str]]]:
    """Return vectors of one form and their norms, by node, and of those that cannot be used, why not."""
    norms: dict[int, float] = {}
    unfit: dict[int, tuple[Reason, str]] = {}
    for same in parts:
        if same.stack is None and same.digest.row is None and not held:
            shape = same.digest.signature.shape if same.digest.signature else ()
            why = (Reason.SHAPE, f"{shape} is far more than others have, and was not fetched")
            unfit |= dict.fromkeys(same.nodes, why)
            continue
        found, error = same.norms(held)
        norms.update(zip(same.nodes, found, strict=True))
        if not math.isfinite(sum(found)):
            why = refusal(error) if error else (Reason.NONFINITE, "an entry is NaN or infinite")
            unfit |= {i: why for i in same.nodes if not math.isfinite(norms[i])}
    vectors = _vectors(parts, unfit)
    return vectors, {i: norms[i] for i in vectors}, unfit


def _vectors(parts: Sequence[_Same], unfit: Collection[int]) -> Mapping[int, Any]:
    """Return the vectors by node, but for those that are unfit."""
    matrices = [(same.nodes, same.stack.matrix) for same in parts if same.stack is not None]
    if matrices and len(matrices) == len(parts):
        return Vectors(matrices, unfit)
    found = {i: v for same in parts for i, v in zip(same.nodes, same.vectors(), strict=True)}
    return _in_order({i: vector for i, vector in found.items() if i not in unfit})


def _in_order(found: dict[int, T]) -> dict[int, T]:
    return dict(sorted(found.items(), key=itemgetter(0)))


def _norm(row: Any) -> tuple[float, BaseException | None]:
    """Return the norm, infinite with the error if the vector cannot be measured."""
    with Recorder() as record:
        return norm_of(row), None
    return math.inf, record.error


def _majority(forms: Mapping[Signature, Sequence[_Same]]) -> Signature | None:
    def weight(form: Signature) -> tuple[int, int]:
        parts = forms[form]
        return sum(len(same.nodes) for same in parts), -min(same.nodes[0] for same in parts)

    return max(forms, key=weight) if forms else None


def _mismatch(form: Signature, right: Signature | None) -> tuple[Reason, str]:
    """Say how two forms differ."""
    assert right is not None
    if form.library != right.library:
        return Reason.TYPE, f"expected {right.library}, got {form.library}"
    if form.dtype != right.dtype:
        return Reason.DTYPE, f"expected {right.dtype}, got {form.dtype}"
    if form.shape != right.shape:
        return Reason.SHAPE, f"expected {right.shape}, got {form.shape}"
    return Reason.DEVICE, f"expected {right.device}, got {form.device}"
