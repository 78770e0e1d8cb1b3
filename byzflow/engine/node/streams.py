"""Random streams of nodes, keyed by (seed, node, round, purpose): the order of calls never matters.

The global streams of `random`, NumPy and torch are shared by all nodes of a process, and any of them may seed
those. A node of your own draws the same numbers on any number of workers, and beside any liar, if it draws
from `generator`, or gives its ``torch.Generator`` a `torch_seed`.
"""

from __future__ import annotations

import dataclasses
import random
import zlib
from operator import index
from typing import Any

import numpy as np

from byzflow.aggregators.pipeline import Pipeline
from byzflow.attacks.adaptive import AdaptiveAttack

__all__ = ("generator", "seeded", "torch_seed")


def generator(seed: int, node: int | str, round: int, purpose: str) -> np.random.Generator:
    """Return the generator of one node, round and purpose: counter-based, the same everywhere.

    Parameters
    ----------
    seed : int
        Seed of the run; not negative.
    node : int or str
        Index or name of the node.
    round : int
        Number of the round.
    purpose : str
        What it is for, such as ``"batch"`` or ``"model"``.

    Examples
    --------
    >>> a, b = generator(7, 0, 3, "batch"), generator(7, 0, 3, "batch")
    >>> bool((a.permutation(5) == b.permutation(5)).all())
    True
    """
    name = zlib.crc32(node.encode()) if isinstance(node, str) else index(node)
    key = np.random.SeedSequence([index(seed), name, round, zlib.crc32(purpose.encode())])
    return np.random.Generator(np.random.Philox(key))


def torch_seed(seed: int, node: int | str, round: int, purpose: str) -> int:
    """Return a seed for a ``torch.Generator`` with the same key.

    Examples
    --------
    >>> torch_seed(0, 0, 0, "model") == torch_seed(0, 0, 0, "model") != torch_seed(0, 0, 1, "model")
    True
    """
    return int(generator(seed, node, round, purpose).integers(2**63))


def seeded(rule: Any, seed: int | None, round: int, n: int | None, node: int | str = "server") -> Any:
    """Give a rule that draws at random, and was given no source to draw from, one for this round.

    Parameters
    ----------
    rule : object
        A rule; or a `Pipeline`, or an attack that tries itself out on rules: their parts one by one.
    seed : int or None
        Seed of the run; None leaves the rule as it is.
    round : int
        Number of the round.
    n : int or None
        Rows that the rule gets; None if that is not known.
    node : int or str
        Where the rule runs.

    Examples
    --------
    >>> seeded("a rule without fields", 3, 0, 5)
    'a rule without fields'
    """
    if seed is None:
        return rule
    if isinstance(rule, Pipeline | AdaptiveAttack):
        parts = enumerate((*rule.pre_aggregators, rule.aggregator))
        *before, last = (seeded(part, seed, round, None, f"{node}/{place}") for place, part in parts)
        return dataclasses.replace(rule, pre_aggregators=tuple(before), aggregator=last)
    unset = object()
    sources = {name: getattr(rule, name, unset) for name in ("perm", "rng", "seed")}
    change: dict[str, Any] = {}
    if sources["perm"] is None and sources["rng"] is None:
        stream = generator(seed, node, round, "permutation")
        if n is None:
            change = {"rng": random.Random(int(stream.integers(2**63)))}
        else:
            change = {"perm": tuple(int(i) for i in stream.permutation(n))}
    elif sources["seed"] is None:
        change = {"seed": int(generator(seed, node, round, "rule").integers(2**63))}
    return dataclasses.replace(rule, **change) if change else rule
