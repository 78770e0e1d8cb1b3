"""Cut a compiled graph where everything passes through one task, to be submitted in parts. Pure.

Dask's scheduler orders every graph that it gets, in a time that grows with the pairs of a task that waits for
nothing and an answer that waits for it. A plan hangs on every shard and every answer hangs on the plan: k
shards are k² pairs in one graph, and k in each of two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from dask.highlevelgraph import HighLevelGraph, Layer

from byzflow.engine.graph.layers import Key

__all__ = ("Wave", "waves")

WIDE = 64
"""How many tasks have to read a plan before a submission more is cheaper than ordering them with the rest."""


@dataclass(frozen=True)
class Wave:
    """What is submitted together.

    Attributes
    ----------
    graph : HighLevelGraph
        It may read keys of the waves before it.
    keys : tuple of Key
        Outputs of the whole graph, and what later waves read: to be held until those are submitted.
    """

    graph: HighLevelGraph
    keys: tuple[Key, ...]


def waves(graph: HighLevelGraph, keys: Collection[Key]) -> list[Wave]:
    """Cut a graph below each layer of one task that many tasks read.

    Parameters
    ----------
    graph : HighLevelGraph
        Its layers are in topological order, and named like the first part of their keys.
    keys : collection of Key
        The outputs.

    Examples
    --------
    >>> from dask.task_spec import TaskRef
    >>> from byzflow.aggregators.geometric_wise import MultiKrum
    >>> from byzflow.engine.graph.layers import Layers, Sharded
    >>> layers = Layers()
    >>> answer = layers.phases(MultiKrum(1, 2), Sharded((TaskRef("x"),) * 100), token="00")
    >>> [list(wave.graph.layers)[-1] for wave in waves(layers.graph(), [ref.key for ref in answer.shards])]
    ['multi-krum-solve-00', 'multi-krum-apply-00']
    """
    place: dict[str, int] = {}
    for name, layer in graph.layers.items():
        below = graph.dependencies[name]
        place[name] = max((place[one] + _splits(graph.layers[one], layer) for one in below), default=0)
    wanted = dict.fromkeys(keys)
    for name, layer in graph.layers.items():
        read = (key for task in layer.values() for key in task.dependencies)
        wanted.update(dict.fromkeys(key for key in read if place.get(_layer(key), place[name]) < place[name]))
    return [
        _wave(graph, [name for name in place if place[name] == i], wanted)
        for i in range(max(place.values(), default=-1) + 1)
    ]


def _splits(below: Layer, above: Layer) -> bool:
    return len(below) == 1 and len(above) > WIDE


def _layer(key: Key) -> str:
    return str(key[0]) if isinstance(key, tuple) else ""


def _wave(graph: HighLevelGraph, names: list[str], wanted: Iterable[Key]) -> Wave:
    dependencies = {name: graph.dependencies[name].intersection(names) for name in names}
    layers = {name: graph.layers[name] for name in names}
    return Wave(HighLevelGraph(layers, dependencies), tuple(key for key in wanted if _layer(key) in layers))
