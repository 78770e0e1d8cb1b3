"""What a run may be told about time, numbers of nodes and randomness, checked before anything starts."""

from __future__ import annotations

import operator
from numbers import Real
from typing import Any

__all__ = ("check_limits",)


def check_limits(*, deadline: Any, quorum: Any, seed: Any, most: int, who: str) -> None:
    """Refuse limits that no round could be run with; None stands for the default of each.

    Parameters
    ----------
    deadline : float or None
        Seconds for the answers in one phase; more than 0, and `inf` is none.
    quorum : int or None
        Nodes that a round needs, from 1 to `most`.
    seed : int or None
        Not negative.
    most : int
        How many nodes there are to count.
    who : str
        What these nodes are called.

    Raises
    ------
    TypeError
        If one is of the wrong kind.
    ValueError
        If one is out of its range.

    Examples
    --------
    >>> check_limits(deadline=2.5, quorum=3, seed=None, most=4, who="nodes")
    >>> check_limits(deadline=None, quorum=5, seed=None, most=4, who="nodes")
    Traceback (most recent call last):
        ...
    ValueError: quorum must be from 1 to the number of nodes, 4; got 5. Change it.
    """
    if deadline is not None:
        if isinstance(deadline, bool) or not isinstance(deadline, Real):
            raise TypeError(f"deadline must be a number of seconds; got {deadline!r}. Pass one, or None.")
        if not float(deadline) > 0:
            raise ValueError(f"deadline must be more than 0 seconds; got {deadline}. Raise it.")
    if quorum is not None and not 1 <= _whole(quorum, "quorum") <= most:
        raise ValueError(f"quorum must be from 1 to the number of {who}, {most}; got {quorum}. Change it.")
    if seed is not None and _whole(seed, "seed") < 0:
        raise ValueError(f"seed must be at least 0; got {seed}. Change it.")


def _whole(value: Any, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number; got {value!r}. Pass an int, or None.") from None
