"""What an experiment consists of, as frozen objects that refuse what cannot be run; `load` reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from byzflow.exceptions import ConfigError
from byzflow.experiments.data import Data, Digits
from byzflow.experiments.models import Model, Softmax
from byzflow.experiments.partition import Iid, Partition
from byzflow.experiments.tables import at_least

__all__ = ("ClusterConfig", "Experiment", "Nodes", "Run", "Training", "aimed", "describe")


@dataclass(frozen=True)
class Nodes:
    """How many nodes tell the truth and how many lie."""

    honest: int = 10
    byzantine: int = 3

    def __post_init__(self) -> None:
        at_least("[nodes]", 1, honest=self.honest)
        at_least("[nodes]", 0, byzantine=self.byzantine)


@dataclass(frozen=True)
class Training:
    """How the nodes learn: rounds, rows per batch, step size, worker momentum, and how often to test."""

    rounds: int = 200
    batch_size: int = 25
    lr: float = 0.5
    momentum: float = 0.9
    evaluate_every: int = 10

    def __post_init__(self) -> None:
        at_least(
            "[training]",
            1,
            rounds=self.rounds,
            batch_size=self.batch_size,
            evaluate_every=self.evaluate_every,
        )
        at_least("[training]", 0, lr=self.lr, momentum=self.momentum)
        if self.momentum >= 1:
            raise ConfigError(f"[training] momentum must be below 1; got {self.momentum}. 0.9 is usual.")


@dataclass(frozen=True)
class ClusterConfig:
    """Which Dask cluster the run uses: an embedded one, or a scheduler that is already there.

    ``connect_timeout`` is how long to look for the scheduler, and for a first worker [seconds].
    """

    backend: str = "process"
    workers: int = 2
    scheduler: str | None = None
    connect_timeout: float = 4.0

    def __post_init__(self) -> None:
        at_least("[cluster]", 1, workers=self.workers)
        at_least("[cluster]", 0.1, connect_timeout=self.connect_timeout)
        if self.backend not in ("process", "thread"):
            raise ConfigError(
                f"[cluster] backend must be process or thread; got {self.backend!r}. "
                "For a cluster that is already there, set scheduler to its address instead."
            )


@dataclass(frozen=True)
class Run:
    """Everything that determines the numbers of one training run."""

    aggregator: Any
    pre_aggregators: tuple[Any, ...] = ()
    attack: Any = None
    seed: int = 0
    data: Data = field(default_factory=Digits)
    partition: Partition = field(default_factory=Iid)
    model: Model = field(default_factory=Softmax)
    training: Training = field(default_factory=Training)
    nodes: Nodes = field(default_factory=Nodes)

    def __post_init__(self) -> None:
        at_least("The experiment's", 0, seed=self.seed)
        if self.attack is None and self.nodes.byzantine:
            raise ConfigError(
                f"[nodes] byzantine = {self.nodes.byzantine} needs an [attack]; got none. "
                "Add a table [attack] with a name, or set byzantine = 0."
            )

    def check(self) -> None:
        """Try the rules on a few small vectors: what cannot work says so before anything starts.

        Raises
        ------
        ConfigError
            If the rules cannot tolerate as many Byzantine nodes among as many nodes, or the attack cannot be
            mounted against as many honest ones.
        """
        n = self.nodes.honest + self.nodes.byzantine
        vectors = list(np.random.default_rng(0).normal(size=(n, 4)))
        try:
            if getattr(self.attack, "uses_honest_grads", False):
                self.attack.apply(honest_grads=vectors[: self.nodes.honest])
            for rule in self.pre_aggregators:
                vectors = rule.pre_aggregate(vectors)
            self.aggregator.aggregate(vectors)
        except ValueError as error:
            raise ConfigError(
                f"This cannot work with {self.nodes.honest} honest nodes of {n}: {error}"
            ) from error


@dataclass(frozen=True)
class Experiment:
    """One file: a run under attack, the same with the baseline rule, and the same without the attack."""

    name: str
    robust: Run
    baseline: Any
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    @property
    def cells(self) -> Mapping[str, Run]:
        """The three runs by name: ``clean``, ``mean`` and ``robust``, in the order in which they are run."""
        attack = aimed(self.robust.attack, self.baseline, ())
        plain = replace(self.robust, aggregator=self.baseline, pre_aggregators=(), attack=attack)
        clean = replace(plain, attack=None, nodes=replace(self.robust.nodes, byzantine=0))
        return MappingProxyType({"clean": clean, "mean": plain, "robust": self.robust})


def aimed(attack: Any, aggregator: Any, pre_aggregators: tuple[Any, ...]) -> Any:
    """Return the attack, told of the rules in use if it is one that searches against them.

    Examples
    --------
    >>> aimed("not an adaptive attack", None, ())
    'not an adaptive attack'
    """
    aim = {"aggregator": aggregator, "pre_aggregators": pre_aggregators}
    known = {f.name for f in dataclasses.fields(attack)} if dataclasses.is_dataclass(attack) else set()
    return replace(attack, **{k: v for k, v in aim.items() if k in known}) if known & set(aim) else attack


def describe(value: object) -> Any:
    """Return what a configuration holds as plain JSON types, class names included.

    Examples
    --------
    >>> describe(Nodes(honest=4, byzantine=1))
    {'class': 'Nodes', 'honest': 4, 'byzantine': 1}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__name__, **parts}
    if isinstance(value, Mapping):
        return {str(key): describe(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [describe(part) for part in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
