"""The layers of one Dask graph, one per phase of a rule, named after both for the dashboard. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import List, Task, TaskRef

from byzflow.engine.graph import shards as work
from byzflow.operators.compose import Chain
from byzflow.operators.rows import RowOperator

__all__ = ("Key", "Layers", "Pieces", "Ref", "Sharded", "Source", "Whole", "label", "prefix")

Key = Any
"""``(layer name, position)``."""

Ref = Any
"""A reference to data: a `TaskRef`, or a `distributed.Future`, which is one."""

FAN_IN = 8
"""How many statistics one task of the tree sums."""


@dataclass(frozen=True)
class Sharded:
    """Rows that lie in column shards (`byzflow.engine.graph.shards.Shard`), in the order of the columns.

    If a rule has made them by a plan, `plan` is where that lies.
    """

    shards: tuple[Ref, ...]
    plan: Ref | None = None


@dataclass(frozen=True)
class Whole:
    """Rows that lie in one piece; cut into `k` shards where it lies, or used as it is if k is 1."""

    value: Ref
    k: int = 1


@dataclass(frozen=True)
class Pieces:
    """Rows that lie apart, one vector each; every vector is cut where it lies."""

    vectors: tuple[Ref, ...]
    k: int = 1


Source = Sharded | Whole | Pieces


def prefix(name: str) -> str:
    """Return the part of an operator's name that Dask shows: words of letters, joined by hyphens.

    Examples
    --------
    >>> prefix("pre-agg/nnm"), prefix("Multi Krum 2"), prefix("42")
    ('pre-agg-nnm', 'multi-krum', 'operator')
    """
    return "-".join(re.findall("[a-z]+", name.lower())) or "operator"


def label(op: RowOperator) -> str:
    """Return what the tasks of a rule are called; a fused chain names its parts."""
    parts = (*op.stages, op.last) if isinstance(op, Chain) else (op,)
    return "-".join(prefix(part.name) for part in parts)


class Layers:
    """Layers that are added phase by phase.

    Parameters
    ----------
    workers : sequence of str
        Addresses; task i of a phase that reads shard i runs on worker i modulo their number, if it can.

    Examples
    --------
    >>> from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
    >>> layers = Layers()
    >>> layers.phases(CoordinateWiseMedian(), Sharded((TaskRef("x"), TaskRef("y"))), token="00").shards
    (TaskRef(('coordinate-wise-median-apply-00', 0)), TaskRef(('coordinate-wise-median-apply-00', 1)))
    """

    def __init__(self, workers: Sequence[str] = ()) -> None:
        self._pin = {"workers": _RoundRobin(tuple(workers)), "allow_other_workers": True} if workers else None
        self._layers: dict[str, MaterializedLayer] = {}
        self._dependencies: dict[str, set[str]] = {}

    def graph(self) -> HighLevelGraph:
        """Return what was added."""
        return HighLevelGraph(self._layers, self._dependencies)

    def add(
        self, name: str, tasks: Sequence[tuple[Any, ...]], *, pinned: bool = False
    ) -> tuple[TaskRef, ...]:
        """Add a layer of tasks, given as ``(function, *arguments)``, and return references to them."""
        mapping = {(name, i): Task((name, i), *parts) for i, parts in enumerate(tasks)}
        self._layers[name] = MaterializedLayer(mapping, annotations=self._pin if pinned else None)
        read = {key[0] for task in mapping.values() for key in task.dependencies if isinstance(key, tuple)}
        self._dependencies[name] = {str(layer) for layer in read if layer in self._layers}
        return tuple(TaskRef(key) for key in mapping)

    def sharded(self, op: RowOperator, argument: str, source: Source, token: str) -> Sharded:
        """Add the layers that cut rows where they lie, if they are not cut, for the rule that reads them."""
        name = f"{label(op)}-cut-{token}"
        if isinstance(source, Whole):
            tasks = [(work.cut, op, argument, source.value, i, source.k) for i in range(source.k)]
            return Sharded(self.add(name, tasks))
        if isinstance(source, Pieces):
            n = len(source.vectors)
            cuts = self.add(
                name,
                [
                    (work.cut_vector, vector, i, source.k)
                    for i in range(source.k)
                    for vector in source.vectors
                ],
            )
            columns = [cuts[i * n : (i + 1) * n] for i in range(source.k)]
            joins = [(work.join, List(*column)) for column in columns]
            return Sharded(self.add(f"{label(op)}-join-{token}", joins, pinned=True))
        return source

    def phases(self, op: RowOperator, source: Sharded, token: str) -> Sharded:
        """Add measure, sum and solve, if the rule measures, and apply.

        A plan is made once, also where nothing is measured: it may be drawn at random.
        """
        name = label(op)
        plan: tuple[TaskRef, ...] = ()
        if op.measures:
            tasks = [(work.measure, op, shard) for shard in source.shards]
            parts = self.add(f"{name}-measure-{token}", tasks, pinned=True)
            plan = self.add(
                f"{name}-solve-{token}", [(work.solve, op, self._sum(f"{name}-sum-{token}", parts))]
            )
        elif type(op).solve is not RowOperator.solve:
            plan = self.add(f"{name}-solve-{token}", [(work.plan_ahead, op, source.shards[0])])
        tasks = [(work.apply, op, shard, *plan) for shard in source.shards]
        return Sharded(self.add(f"{name}-apply-{token}", tasks, pinned=True), *plan)

    def gathered(self, op: RowOperator, source: Sharded, token: str) -> Whole:
        """Add the task that puts the shards of an answer together."""
        (value,) = self.add(f"{label(op)}-gather-{token}", [(work.gather, op, List(*source.shards))])
        return Whole(value)

    def chained(self, links: Sequence[work.Link], value: Ref, token: str, *, planned: bool = False) -> Whole:
        """Add the task that runs rules one after another on rows in one piece.

        If it is `planned`, its value is the answer and the plan of the last rule.
        """
        name = "-".join(label(op) for op, _ in links)
        run = work.run_chain_planned if planned else work.run_chain
        (answer,) = self.add(f"{name}-{token}", [(run, list(links), value)])
        return Whole(answer)

    def _sum(self, name: str, parts: tuple[TaskRef, ...]) -> TaskRef:
        """Add layers that sum `parts`, a few at a time."""
        level = 0
        while len(parts) > 1 or level == 0:
            groups = [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]
            parts = self.add(f"{name}{level}", [(work.merge, List(*group)) for group in groups])
            level += 1
        return parts[0]


@dataclass(frozen=True)
class _RoundRobin:
    """The annotation that puts task i of a layer on worker i modulo their number."""

    workers: tuple[str, ...]

    def __call__(self, key: Key) -> list[str]:
        return [self.workers[key[1] % len(self.workers)]]
