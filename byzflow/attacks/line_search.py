"""The search for the strength of an attack, when all that can be done with the rule is to try it."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ("line_search",)

_RATIO = 0.8
"""Factor on a step after one that did not help."""


def line_search(objective: Callable[[float], float], *, step: float = 10.0, evaluations: int = 20) -> float:
    """Return the argument >= 0 of the greatest value found in a fixed number of evaluations.

    A rule lets an attack pass up to some strength and throws it out beyond: seen from there, the objective
    is flat. So half of the evaluations try 0 and ``step, step / 2, step / 4, ...``. From the best of them,
    steps are doubled as long as the farthest is the best; then steps to either side shrink.

    Parameters
    ----------
    objective : callable
        What to maximise; NaN counts as +inf.
    step : float, default 10.0
        Greatest strength of the first sweep; greater than 0.
    evaluations : int, default 20
        Calls of `objective`; at least 1.

    Examples
    --------
    >>> abs(line_search(lambda x: -(x - 3.0) ** 2) - 3.0) < 0.2
    True
    """

    def value_at(x: float) -> float:
        value = objective(x)
        return math.inf if math.isnan(value) else value

    best, value = 0.0, value_at(0.0)
    sweep = [step * 0.5**k for k in range(evaluations // 2)]
    for x in sweep:
        found = value_at(x)
        if found > value:
            best, value = x, found
    expanding = best == step
    move, side = best if expanding else (best or step * 0.5 ** len(sweep)) / 2.0, 1.0
    for _ in range(evaluations - 1 - len(sweep)):
        x = best + side * move if best >= -side * move else best + move
        found = value_at(x)
        if found > value:
            best, value = x, found
            move *= 2.0 if expanding else 1.0
            continue
        side = side if expanding else -side
        move *= 0.5 if expanding else _RATIO
        expanding = False
    return best
