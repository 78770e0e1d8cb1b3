"""Random numbers that do not depend on how columns are cut: every column has its place in one stream.

`uniform` and `NormalColumns` jump to any column (counter-based generators); `NormalStream` reproduces NumPy's
own stream of normal numbers, in which nothing can be skipped without being drawn.
"""

from __future__ import annotations

import secrets
import threading
from typing import Any, NamedTuple

import numpy as np

from byzflow.kernels import native
from byzflow.kernels.blocks import Span

__all__ = ("NormalColumns", "NormalStream", "fresh_key", "fresh_seed", "uniform")

_WORDS = 4
"""Numbers that one step of the Philox counter gives."""

_WORD = (1 << 63) - 1
"""The bits of a key that are one number to compiled loops."""

_PIECE = 8192
"""How many numbers are drawn at a time on the way to a later column."""


def fresh_seed() -> int:
    """Return a seed that nobody has used, from the operating system; below 2**126."""
    return secrets.randbits(126)


def fresh_key() -> int:
    """Return a key of one word that nobody has used, from the operating system; below 2**63."""
    return secrets.randbits(63)


def uniform(key: tuple[int, ...], span: Span) -> np.ndarray:
    """Return numbers in [0, 1) for columns `span`, (w,) float64: the same for a column in every span.

    Parameters
    ----------
    key : tuple of int
        Names the stream, such as ``(seed, iteration)``; each at least 0.
    span : Span
        Columns of the whole vector.

    Examples
    --------
    >>> whole, part = uniform((7,), Span(0, 9)), uniform((7,), Span(5, 9))
    >>> bool((whole[5:] == part).all())
    True
    """
    source = np.random.Philox(key=np.random.SeedSequence(key).generate_state(2, np.uint64))
    step = span.lo // _WORDS
    if step:
        source.advance(step)
    return np.random.Generator(source).random(span.hi - step * _WORDS)[span.lo - step * _WORDS :]


class NormalStream:
    """The numbers of ``numpy.random.default_rng(seed).normal(mu, sigma, d)``, read in any pieces.

    Each thread remembers how far it has come, so that reading blocks in their order draws each number once;
    reading backwards starts again. Holds no more than a block. Travels without what it remembers.

    Examples
    --------
    >>> stream = NormalStream(7, 0.0, 1.0)
    >>> whole = np.random.default_rng(7).normal(0.0, 1.0, 5000)
    >>> bool((stream.read(Span(3000, 5000)) == whole[3000:]).all())
    True
    """

    def __init__(self, seed: int, mu: float, sigma: float) -> None:
        self.seed, self.mu, self.sigma = seed, mu, sigma
        self._cursor = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return NormalStream, (self.seed, self.mu, self.sigma)

    def read(self, span: Span) -> np.ndarray:
        """Return the numbers of columns `span`, (w,) float64."""
        cursor = self._cursor
        if getattr(cursor, "place", span.lo + 1) > span.lo:
            cursor.rng, cursor.place = np.random.default_rng(self.seed), 0
        while cursor.place < span.lo:
            step = min(_PIECE, span.lo - cursor.place)
            cursor.rng.standard_normal(step)
            cursor.place += step
        cursor.place = span.hi
        values: np.ndarray = cursor.rng.normal(self.mu, self.sigma, span.width)
        return values


class NormalColumns(NamedTuple):
    """Normal numbers of nobody's stream: each follows from a seed and its column, whoever draws it.

    Examples
    --------
    >>> noise = NormalColumns(7, 0.0, 1.0)
    >>> whole = noise.read(Span(0, 40_000), np.float32)
    >>> bool((noise.read(Span(30_000, 40_000), np.float32) == whole[30_000:]).all())
    True
    """

    seed: int
    mu: float
    sigma: float

    def read(self, span: Span, dtype: Any) -> np.ndarray:
        """Return the numbers of columns `span`, (w,), rounded to `dtype`, float32 or float64."""
        values = np.empty(span.width, dtype)
        self.write(span, values)
        return values

    def write(self, span: Span, values: np.ndarray) -> None:
        """Write the numbers of columns `span` into `values`, (w,), rounded to its dtype."""
        key = self.seed & _WORD, self.seed >> 63 & _WORD
        native.write_normals(*key, span.lo, self.mu, self.sigma, *native.ziggurat(), values)
