"""How a data set is dealt out to nodes: one small class per way; nothing here knows what the data are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from byzflow.exceptions import ConfigError

__all__ = ("PARTITIONS", "Dirichlet", "Extreme", "GammaSimilarity", "Iid", "Partition")

Indices = NDArray[np.intp]


class Partition(Protocol):
    """What every way of dealing out data offers."""

    def split(self, labels: NDArray[np.int64], nodes: int, rng: np.random.Generator) -> list[Indices]:
        """Return one array of row indices per node; together they hold every row once, none is empty."""


@dataclass(frozen=True)
class Iid:
    """Deal the rows out at random: every node sees the same distribution.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> [part.size for part in Iid().split(np.arange(10), 3, rng)]
    [4, 3, 3]
    """

    def split(self, labels: NDArray[np.int64], nodes: int, rng: np.random.Generator) -> list[Indices]:
        """Cut a random permutation of the rows into `nodes` pieces of almost equal size."""
        _enough(labels, nodes)
        return np.array_split(rng.permutation(labels.size), nodes)


@dataclass(frozen=True)
class Extreme:
    """Sort the rows by label and cut: a node sees one or two labels only.

    Examples
    --------
    >>> parts = Extreme().split(np.array([1, 0, 1, 0]), 2, np.random.default_rng(0))
    >>> [sorted(part.tolist()) for part in parts]
    [[1, 3], [0, 2]]
    """

    def split(self, labels: NDArray[np.int64], nodes: int, rng: np.random.Generator) -> list[Indices]:
        """Cut the rows, in the order of their labels, into `nodes` pieces of almost equal size."""
        return GammaSimilarity(gamma=0.0).split(labels, nodes, rng)


@dataclass(frozen=True)
class GammaSimilarity:
    """Deal a share `gamma` of the rows out at random and the rest in the order of the labels.

    ``gamma=1`` is `Iid`, ``gamma=0`` is `Extreme`.

    Parameters
    ----------
    gamma : float
        Share of the rows that is dealt out at random; ``0 <= gamma <= 1``.

    References
    ----------
    .. [1] Karimireddy et al., "SCAFFOLD: Stochastic controlled averaging for federated learning", ICML 2020.

    Examples
    --------
    >>> parts = GammaSimilarity(0.5).split(np.arange(8) // 4, 2, np.random.default_rng(0))
    >>> [part.size for part in parts]
    [4, 4]
    """

    gamma: float

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ConfigError(
                f"[partition] gamma must lie in [0, 1]; got {self.gamma}. 1 is iid, 0 is sorted."
            )

    def split(self, labels: NDArray[np.int64], nodes: int, rng: np.random.Generator) -> list[Indices]:
        """Cut the random share and the sorted share into `nodes` pieces each, and pair them."""
        _enough(labels, nodes)
        rows = rng.permutation(labels.size)
        cut = round(self.gamma * labels.size)
        mixed, rest = rows[:cut], rows[cut:]
        rest = rest[np.argsort(labels[rest], kind="stable")]
        # Reversed, so that the pieces that are one row longer do not all go to the same nodes.
        pieces = zip(reversed(np.array_split(mixed, nodes)), np.array_split(rest, nodes), strict=True)
        return [np.concatenate(pair) for pair in pieces]


@dataclass(frozen=True)
class Dirichlet:
    """Give every node a share of each label drawn from a symmetric Dirichlet distribution.

    Parameters
    ----------
    alpha : float
        Concentration; large values approach `Iid`, small ones leave a node few labels.

    References
    ----------
    .. [1] Hsu, Qi and Brown, "Measuring the effects of non-identical data distribution for federated visual
       classification", 2019.

    Examples
    --------
    >>> parts = Dirichlet(alpha=0.5).split(np.arange(60) % 3, 4, np.random.default_rng(0))
    >>> sorted(np.concatenate(parts).tolist()) == list(range(60))
    True
    """

    alpha: float

    def __post_init__(self) -> None:
        if not 0 < self.alpha < math.inf:
            raise ConfigError(
                f"[partition] alpha must be > 0 and finite; got {self.alpha}. 0.1 is uneven, 100 is even."
            )

    def split(self, labels: NDArray[np.int64], nodes: int, rng: np.random.Generator) -> list[Indices]:
        """Cut the rows of each label by shares drawn for it; a node left empty takes a row of the largest."""
        _enough(labels, nodes)
        parts: list[list[Indices]] = [[] for _ in range(nodes)]
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(nodes, self.alpha))
            cuts = np.round(np.cumsum(shares)[:-1] * rows.size).astype(int)
            for part, piece in zip(parts, np.split(rows, cuts), strict=True):
                part.append(piece)
        return _fill_empty([np.concatenate(part) for part in parts])


PARTITIONS: Mapping[str, type[Partition]] = MappingProxyType(
    {"dirichlet": Dirichlet, "extreme": Extreme, "gamma_similarity": GammaSimilarity, "iid": Iid}
)


def _enough(labels: NDArray[np.int64], nodes: int) -> None:
    if labels.size < nodes:
        raise ConfigError(
            f"Every honest node needs at least one row of data; got {labels.size} rows for {nodes} nodes. "
            "Lower [nodes] honest, or bring more data."
        )


def _fill_empty(parts: list[Indices]) -> list[Indices]:
    for i, part in enumerate(parts):
        if part.size == 0:
            largest = max(range(len(parts)), key=lambda j: parts[j].size)
            parts[i], parts[largest] = parts[largest][:1], parts[largest][1:]
    return parts
