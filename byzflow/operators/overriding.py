"""What becomes of a rule over rows when a subclass overrides the method that its callers use."""

from __future__ import annotations

from byzflow.operators.base import Operator
from byzflow.operators.rows import RowOperator

__all__ = ("runs_whole",)


def runs_whole(cls: type[RowOperator], method: str, family: type[Operator]) -> None:
    """Have a subclass that overrides `method` run in one piece, by that method: its phases miss what it adds.

    One whose phases do say the same sets ``by_phases = True``.

    Parameters
    ----------
    cls : type
        The subclass, when it is made.
    method : str
        What callers use: ``"aggregate"``, ``"pre_aggregate"`` or ``"apply"``.
    family : type
        The base whose ``compute`` calls that method.
    """
    if method not in vars(cls) or "by_phases" in vars(cls):
        return
    cls.by_phases = cls.supports_subtasks = cls.supports_barriered_subtasks = False
    if "compute" not in vars(cls):
        cls.compute = family.compute  # type: ignore[method-assign]  # as if written there
