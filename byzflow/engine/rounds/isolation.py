"""Copies that share nothing with their originals: what one party does with them, no other notices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from byzflow.engine.actor.calls import Outcome, Recorder
from byzflow.engine.rounds.forms import digest_of

__all__ = ("is_bare", "isolated", "owned")


def is_bare(value: Any) -> bool:
    """Whether a value is one plain array or tensor, with nothing in it to look for.

    Examples
    --------
    >>> is_bare(np.zeros(2)), is_bare((np.zeros(2),))
    (True, False)
    """
    return type(value) is torch.Tensor or type(value) is np.ndarray


def isolated(value: Any) -> Any:
    """Return a copy that shares no array with the original.

    Examples
    --------
    >>> original = np.zeros(2)
    >>> isolated((original,))[0][:] = 1
    >>> original
    array([0., 0.])
    """
    if type(value) is torch.Tensor and not value.requires_grad:
        return value.clone()
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, tuple | list):
        return type(value)(map(isolated, value))
    if isinstance(value, dict):
        return {key: isolated(item) for key, item in value.items()}
    return value.copy() if type(value).__module__.partition(".")[0] == "cupy" else value


def owned(outcome: Outcome) -> Outcome:
    """Return an answer of this process as a copy that its sender can no longer change.

    Examples
    --------
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
