"""What a node may answer: reading one outcome, agreeing on a form, and saying why an answer is refused.

Pure functions on values; how the answers travelled is not this module's business. Nothing here raises,
whatever the values are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

import torch

from byzflow.engine.actor.calls import Outcome, Recorder, text_of
from byzflow.engine.node.forms import Digest, Signature, digest_of, norm_of
from byzflow.exceptions import NodeLostError

__all__ = (
    "Answered",
    "Exclusion",
    "Reason",
    "Verdict",
    "judge",
    "owned",
    "refusal",
)


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
    vectors : dict of int to array
        Fit vectors by node index, in node order.
    norms : dict of int to float
        Euclidean norm of each fit vector.
    signature : Signature or None
        The form they share; None if there is none.
    excluded : dict of int to Exclusion
        The rest, by node index.
    """

    vectors: dict[int, Any] = field(default_factory=dict)
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
    if issubclass(kind, TimeoutError):
        return Reason.DEADLINE, text or "no answer in time"
    return Reason.RAISED, f"{type.__getattribute__(kind, '__name__')[:200]}: {text}"


def owned(outcome: Outcome) -> Outcome:
    """Return an answer of this process as a copy that its sender can no longer change.

    Examples
    --------
    >>> import numpy as np
    >>> kept = np.zeros(2)
    >>> answer = owned(Outcome(kept))
    >>> kept[:] = np.nan
    >>> answer.value
    array([0., 0.])
    """
    digest = digest_of(outcome.value)
    if outcome.error is not None or digest.signature is None:
        return outcome
    with Recorder() as record:
        row = digest.row
        return replace(outcome, value=row.clone() if isinstance(row, torch.Tensor) else row.copy())
    return replace(outcome, value=None, error=record.error)


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
    excluded: dict[int, Exclusion] = {}
    forms: dict[int, Signature] = {}
    digests: dict[int, Digest] = {}
    for index in sorted(outcomes):
        outcome = outcomes[index]
        if outcome.error is not None:
            said = getattr(outcome, "said", None)
            excluded[index] = Exclusion(names[index], phase, *refusal(outcome.error, said))
            continue
        digest = outcome.value if held else digest_of(outcome.value)
        form = digest.signature
        if form is None:
            detail = f"expected a real tensor or array, got {digest.kind}"
            excluded[index] = Exclusion(names[index], phase, Reason.TYPE, detail)
        else:
            forms[index] = form
            digests[index] = digest
    right = expected or _majority(forms)
    verdict = Verdict(signature=right, excluded=excluded)
    for index, form in forms.items():
        reason, detail = _mismatch(form, right)
        if reason is None:
            norm, error = (digests[index].norm, None) if held else _norm(digests[index].row)
            if math.isfinite(norm):
                verdict.vectors[index] = digests[index].row
                verdict.norms[index] = norm
                continue
            reason, detail = refusal(error) if error else (Reason.NONFINITE, "an entry is NaN or infinite")
        excluded[index] = Exclusion(names[index], phase, reason, detail)
    return verdict


def _norm(row: Any) -> tuple[float, BaseException | None]:
    """Return the norm, infinite with the error if the vector cannot be measured."""
    with Recorder() as record:
        return norm_of(row), None
    return math.inf, record.error


def _majority(forms: Mapping[int, Signature]) -> Signature | None:
    counts = Counter(forms.values())
    return max(counts, key=counts.__getitem__) if counts else None


def _mismatch(form: Signature, right: Signature | None) -> tuple[Reason | None, str]:
    assert right is not None
    if form.library != right.library:
        return Reason.TYPE, f"expected {right.library}, got {form.library}"
    if form.dtype != right.dtype:
        return Reason.DTYPE, f"expected {right.dtype}, got {form.dtype}"
    if form.shape != right.shape:
        return Reason.SHAPE, f"expected {right.shape}, got {form.shape}"
    if form.device != right.device:
        return Reason.DEVICE, f"expected {right.device}, got {form.device}"
    return None, ""
