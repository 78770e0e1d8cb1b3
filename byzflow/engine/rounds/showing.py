"""What is shown to nodes: copies, references resolved, or vectors whose pages are copied when written to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from typing import Any

import torch

from byzflow.engine.actor.calls import is_awaitable
from byzflow.engine.actor.stack import Stack
from byzflow.engine.rounds.arena import RowRef
from byzflow.engine.rounds.isolation import is_bare, isolated
from byzflow.engine.rounds.panes import Pane
from byzflow.engine.rounds.picks import Picked, Places

__all__ = ("Showing", "copied", "resolved", "rewritten", "show")

Shown = RowRef | Places | Stack
"""What stands for vectors."""

PLAIN = (type(None), bool, int, float, str)
COPIED = 1 << 17  # [bytes] up to which a copy costs less than a pane; malloc takes fresh pages for more


class Showing:
    """Vectors shown to code that may do with them what it likes, without copying them first.

    Small ones are copied. Of others, pages are copied when that code writes to them; what it keeps is copied
    by `close`, before the rows are used again.

    Examples
    --------
    >>> import numpy as np
    >>> from byzflow.engine.rounds.arena import Arena
    >>> from byzflow.engine.rounds.forms import Signature
    >>> arena = Arena(1, Signature("numpy", "float32", (3,)))
    >>> showing = Showing()
    >>> kept = showing.resolve((RowRef(arena.site, 0),))[0]
    >>> kept[0] = 7.0
    >>> showing.close()
    >>> arena.write(0, np.ones(3, dtype=np.float32))
    >>> kept
    array([7., 0., 0.], dtype=float32)
    """

    def __init__(self) -> None:
        self._panes: list[Pane] = []
        self._lent: list[tuple[Stack, bytearray]] = []

    def resolve(self, value: Any) -> Any:
        """Replace references and stacks by vectors of the receiver's own; each occurrence is another copy."""
        return _each(self._own, value)

    def _own(self, value: Shown) -> Any:
        if isinstance(value, Places):
            return self._own(value.stack()) if _are_small(value) else [self._own(row) for row in value]
        if isinstance(value, Stack):
            memory, rows = value.lend()
            self._lent.append((value, memory))
            return rows
        if _are_small(value):
            return value.copy()
        pane = next((p for p in self._panes if p.site == value.site and value.row not in p), None)
        if pane is None:
            pane = Pane.lent(value.site)
            self._panes.append(pane)
        return pane.open(value.row)

    def close(self) -> None:
        """Let go of the vectors; those that somebody still holds become copies."""
        while self._lent:
            stack, memory = self._lent.pop()
            stack.take_back(memory)
        while self._panes:
            self._panes.pop().give_back()


def copied(args: Sequence[Any]) -> list[Any] | None:
    """Return copies of what is shown, if it is nothing but numbers, vectors, small rows, and lists of those.

    Examples
    --------
    >>> copied((torch.ones(2), [torch.zeros(1)], 0.5)), copied((object(),)) is None
    ([tensor([1., 1.]), [tensor([0.])], 0.5], True)
    """
    if type(args) is Picked and _are_small(args):
        return args.copies()
    own: list[Any] = []
    for value in args:
        if type(value) is torch.Tensor and not value.requires_grad:
            own.append(value.clone())  # as `isolated` does, quicker
        elif is_bare(value):
            own.append(isolated(value))
        elif isinstance(value, RowRef) and _are_small(value):
            own.append(value.copy())
        elif type(value) in (list, tuple) and (parts := copied(value)) is not None:
            own.append(type(value)(parts))
        elif type(value) in PLAIN:
            own.append(value)
        else:
            return None
    return own


def show(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a node with vectors of its own, and let go of them when it is done.

    Examples
    --------
    >>> given = torch.ones(2)
    >>> show(lambda vector: vector is given, (given,), {})
    False
    """
    showing = Showing()
    try:
        answer = _call(method, args, kwargs, showing)
        if is_awaitable(answer):
            answer, showing = _awaited(answer, showing), Showing()
        return answer
    finally:
        showing.close()


def _call(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], showing: Showing) -> Any:
    """Call a node; nothing here may hold what it is shown when this returns."""
    own_args, own_kwargs = showing.resolve((isolated(args), isolated(kwargs)))
    return method(*own_args, **own_kwargs)


async def _awaited(answer: Awaitable[Any], showing: Showing) -> Any:
    """Return what an answer comes to; until then it may use what it is shown."""
    with closing(showing):
        return await answer


def resolved(value: Any) -> Any:
    """Replace references and stacks by the vectors they stand for, to be read only.

    Examples
    --------
    >>> resolved((1, ["x"]))
    (1, ['x'])
    """
    return _each(_read, value)


def rewritten(change: Callable[[RowRef], RowRef], value: Any) -> Any:
    """Replace references by others.

    Examples
    --------
    >>> rewritten(lambda ref: ref, {"x": [1]})
    {'x': [1]}
    """

    def changed(known: Shown) -> Any:
        if isinstance(known, Places):
            return [change(row) for row in known]
        return change(known) if isinstance(known, RowRef) else known

    return _each(changed, value)


def _read(known: Shown) -> Any:
    if isinstance(known, Places):
        return known.stack().rows() if _are_small(known) else [row.open() for row in known]
    return known.open() if isinstance(known, RowRef) else known.rows()


def _are_small(rows: RowRef | Places | Picked) -> bool:
    """Whether to copy these rows costs less than to map them."""
    return rows.site.signature.nbytes <= COPIED


def _each(change: Callable[[Shown], Any], value: Any) -> Any:
    """Change references and stacks, in tuples, lists and dictionaries too."""
    if isinstance(value, Shown):
        return change(value)
    if type(value) is Picked:
        value = tuple(value)
    if type(value) in (tuple, list):
        return type(value)(_each(change, item) for item in value)
    return {key: _each(change, item) for key, item in value.items()} if type(value) is dict else value
