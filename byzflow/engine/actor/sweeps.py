"""Calls of many objects in columns: what all have in common once, and what differs as lists.

A thousand calls as a thousand records cost more to make, to pickle and to keep than small nodes to answer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, repeat
from operator import methodcaller
from typing import Any

from byzflow.engine.actor.calls import Call
from byzflow.engine.listed import Listed

__all__ = ("Chain", "Share", "Sweep", "asks_of", "joined", "kinds_of", "names_of", "part_of", "shares")


class Sweep(Listed[Call]):
    """One method call on many objects of a host: the list of their names, and the call once.

    Parameters
    ----------
    object_ids : sequence of str
        The objects.
    method : str
        What is called on each.
    args : tuple, optional
        What all calls are given.
    each : mapping of str to sequence, optional
        Keyword arguments that differ: a value for each object.
    kwargs : mapping of str to object, optional
        Keyword arguments of all calls.

    Examples
    --------
    >>> sweep = Sweep(["node-1", "node-2"], "gradient", (0.1,), each={"row": [5, 7]})
    >>> len(sweep), sweep[1]
    (2, Call(object_id='node-2', method='gradient', args=(0.1,), kwargs={'row': 7}))
    """

    __slots__ = ("args", "each", "kwargs", "method", "object_ids")

    def __init__(
        self,
        object_ids: Sequence[str],
        method: str,
        args: tuple[Any, ...] = (),
        each: Mapping[str, Sequence[Any]] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.object_ids, self.method, self.args = object_ids, method, args
        self.each, self.kwargs = dict(each or {}), dict(kwargs or {})

    def __reduce__(self) -> tuple[Any, ...]:
        return Sweep, (self.object_ids, self.method, self.args, self.each, self.kwargs)

    def __len__(self) -> int:
        return len(self.object_ids)

    def item(self, position: int) -> Call:
        """Return the call of one object."""
        kwargs = self.kwargs | {name: values[position] for name, values in self.each.items()}
        return Call(self.object_ids[position], self.method, self.args, *([kwargs] if kwargs else ()))

    def part(self, positions: Sequence[int]) -> Sweep:
        """Return the calls at some positions."""
        each = {name: part_of(values, positions) for name, values in self.each.items()}
        return Sweep(part_of(self.object_ids, positions), self.method, self.args, each, self.kwargs)

    def asks(self) -> list[Callable[[Any], Any]]:
        """Return what makes each of the calls on the object itself."""
        if not self.each:
            return [methodcaller(self.method, *self.args, **self.kwargs)] * len(self)
        rows = zip(*self.each.values(), strict=True)
        kwargs = ({**self.kwargs, **dict(zip(self.each, row, strict=True))} for row in rows)
        return [methodcaller(self.method, *self.args, **known) for known in kwargs]


class Chain(Listed[Call]):
    """Calls of several kinds, one kind after another.

    Parameters
    ----------
    parts : sequence of sequence of Call
        A `Sweep` each, or any calls.

    Examples
    --------
    >>> chained = Chain([Sweep(["node-1", "node-2"], "step"), [Call("node-1", "tell")]])
    >>> len(chained), chained[2]
    (3, Call(object_id='node-1', method='tell', args=(), kwargs=mappingproxy({})))
    """

    __slots__ = ("_starts", "parts")

    def __init__(self, parts: Sequence[Sequence[Call]]) -> None:
        self.parts = tuple(parts)
        self._starts = list(accumulate(map(len, self.parts), initial=0))

    def __reduce__(self) -> tuple[Any, ...]:
        return Chain, (self.parts,)

    def __len__(self) -> int:
        return self._starts[-1]

    def item(self, position: int) -> Call:
        """Return one of the calls."""
        at = bisect_right(self._starts, position) - 1
        return self.parts[at][position - self._starts[at]]


class Share(Listed[Call]):
    """The calls of one object in several sweeps, in their order.

    Examples
    --------
    >>> step, tell = (Sweep(["node-1", "node-2"], method) for method in ("step", "tell"))
    >>> [(call.object_id, call.method) for call in Share((step, tell), 1)]
    [('node-2', 'step'), ('node-2', 'tell')]
    """

    __slots__ = ("position", "sweeps")

    def __init__(self, sweeps: tuple[Sweep, ...], position: int) -> None:
        self.sweeps, self.position = sweeps, position

    def __len__(self) -> int:
        return len(self.sweeps)

    def item(self, position: int) -> Call:
        """Return the call that is the object's part of one of the sweeps."""
        return self.sweeps[position][self.position]


def shares(sweeps: Sequence[Sweep]) -> list[Share]:
    """Return what each object has to do in sweeps over the same objects."""
    whole = tuple(sweeps)
    return [Share(whole, position) for position in range(len(whole[0]))]


def joined(queues: Sequence[Sequence[Call]]) -> tuple[Sequence[Call], list[range]]:
    """Return the calls of all queues in one sequence, and where in it those of each are.

    What queues have a `Share` of stays in columns.

    Examples
    --------
    >>> sweeps = [Sweep(["node-1", "node-2", "node-3"], method) for method in ("step", "tell")]
    >>> calls, places = joined(shares(sweeps)[1:])
    >>> [(call.object_id, call.method) for call in calls]
    [('node-2', 'step'), ('node-3', 'step'), ('node-2', 'tell'), ('node-3', 'tell')]
    >>> places
    [range(0, 4, 2), range(1, 4, 2)]
    """
    places = [range(0)] * len(queues)
    groups: dict[int, list[tuple[int, Share]]] = {}
    loose: list[int] = []
    for at, queue in enumerate(queues):
        if type(queue) is Share:
            groups.setdefault(id(queue.sweeps), []).append((at, queue))
        else:
            loose.append(at)
    parts: list[Sequence[Call]] = []
    start = 0
    for members in groups.values():
        sweeps, positions = members[0][1].sweeps, [share.position for _, share in members]
        parts += [sweep.part(positions) for sweep in sweeps]
        end = start + len(members) * len(sweeps)
        for row, (at, _) in enumerate(members):
            places[at] = range(start + row, end, len(members))
        start = end
    for at in loose:
        places[at] = range(start, start + len(queues[at]))
        start += len(queues[at])
    if loose:
        parts.append(_swept([call for at in loose for call in queues[at]]))
    return parts[0] if len(parts) == 1 else Chain(parts), places


def part_of(values: Sequence[Any], positions: Sequence[int]) -> Sequence[Any]:
    """Return the values at some positions of a column, which may know how to do that itself.

    Examples
    --------
    >>> part_of("abc", [2, 0])
    ['c', 'a']
    """
    if hasattr(values, "part"):
        part: Sequence[Any] = values.part(positions)
        return part
    return [values[position] for position in positions]


def names_of(calls: Sequence[Call]) -> Sequence[str]:
    """Return the name of the object of each of the calls.

    Examples
    --------
    >>> names_of([Call("node-3", "upper")]), names_of(Sweep(["node-1", "node-2"], "upper"))
    (['node-3'], ['node-1', 'node-2'])
    """
    if isinstance(calls, Sweep):
        return calls.object_ids
    if isinstance(calls, Chain):
        return list(chain.from_iterable(map(names_of, calls.parts)))
    return [call.object_id for call in calls]


def asks_of(calls: Sequence[Call]) -> list[Callable[[Any], Any]]:
    """Return what makes each of the calls on the object itself.

    Examples
    --------
    >>> [ask("a") for ask in asks_of([Call("node-3", "upper"), Call("node-3", "lower")])]
    ['A', 'a']
    """
    if isinstance(calls, Sweep):
        return calls.asks()
    if isinstance(calls, Chain):
        return list(chain.from_iterable(map(asks_of, calls.parts)))
    return [call.ask() for call in calls]


def kinds_of(calls: Sequence[Call]) -> Iterator[tuple[str, Call]]:
    """Return the name of the object of each of the calls, with a call of the same method.

    Examples
    --------
    >>> [(name, call.method) for name, call in kinds_of(Sweep(["node-1", "node-2"], "upper"))]
    [('node-1', 'upper'), ('node-2', 'upper')]
    """
    if isinstance(calls, Sweep):
        return zip(calls.object_ids, repeat(calls[0])) if calls else iter(())
    if isinstance(calls, Chain):
        return chain.from_iterable(map(kinds_of, calls.parts))
    return ((call.object_id, call) for call in calls)


def _swept(calls: Sequence[Call]) -> Sequence[Call]:
    """Return calls of several objects as a `Sweep`, if what is called is the very same for all."""
    if len(calls) < 2 or calls[0].kwargs:
        return calls
    method, args = calls[0].method, calls[0].args
    if any(call.args is not args or call.method != method or call.kwargs for call in calls):
        return calls
    return Sweep([call.object_id for call in calls], method, args)
