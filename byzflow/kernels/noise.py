"""Random numbers that do not depend on how columns are cut: every column has its place in one stream.

`uniform` jumps to any column (a counter-based generator); `NormalStream` reproduces NumPy's own stream of
normal numbers, in which nothing can be skipped without being drawn; `NormalBlocks` has a stream per block.
"""

from __future__ import annotations

import secrets
import threading
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

from byzflow.kernels.blocks import Span

__all__ = ("NormalBlocks", "NormalStream", "fresh_seed", "uniform")

_WORDS = 4
"""Numbers that one step of the Philox counter gives."""

_NORMALS = 16384
"""Columns that share a generator of normal numbers."""

_PIECE = 8192
"""How many numbers are drawn at a time on the way to a later column."""


def fresh_seed() -> int:
    """Return a seed that nobody has used, from the operating system; below 2**128."""
    return secrets.randbits(128)


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


class NormalBlocks:
    """Normal numbers of nobody's stream, drawn block by block, so that threads and shards share the work.

    Every block of columns has a generator of its own; a thread that reads blocks in order goes on in one.

    Examples
    --------
    >>> noise = NormalBlocks(7, 0.0, 1.0)
    >>> whole = noise.read(Span(0, 40_000), np.float32)
    >>> bool((noise.read(Span(30_000, 40_000), np.float32) == whole[30_000:]).all())
    True
    """

    def __init__(self, seed: int, mu: float, sigma: float) -> None:
        self.seed, self.mu, self.sigma = seed, mu, sigma
        self._cursor = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return NormalBlocks, (self.seed, self.mu, self.sigma)

    def read(self, span: Span, dtype: Any) -> np.ndarray:
        """Return the numbers of columns `span`, (w,), drawn in `dtype`, float32 or float64."""
        values = np.empty(span.width, dtype)
        self.write(span, values)
        return values

    def write(self, span: Span, values: np.ndarray) -> None:
        """Write the numbers of columns `span` into `values`, (w,), drawn in its dtype, float32 or float64."""
        place, dtype = span.lo, values.dtype.type
        while place < span.hi:
            end = min(span.hi, (place // _NORMALS + 1) * _NORMALS)
            self._at(place, dtype).standard_normal(out=values[place - span.lo : end - span.lo], dtype=dtype)
            self._cursor.place = place = end
        if self.sigma != 1.0:
            values *= self.sigma
        if self.mu != 0.0:
            values += self.mu

    def _at(self, place: int, dtype: Any) -> np.random.Generator:
        """Return a generator whose next number is that of column `place`."""
        cursor = self._cursor
        if getattr(cursor, "place", -1) != place or place % _NORMALS == 0:
            block, skip = divmod(place, _NORMALS)
            cursor.rng = _generator(f"{self.seed}/{block}")
            if skip:
                cursor.rng.standard_normal(skip, dtype=dtype)
        rng: np.random.Generator = cursor.rng
        return rng


class _Hashed(ISeedSequence):
    """Words from the hash of a key, in a fifth of the time that NumPy's own seed sequence takes."""

    def __init__(self, key: str) -> None:
        self.key = key

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        """Return `n_words` words."""
        kind = np.dtype(dtype)
        return np.frombuffer(blake2b(self.key.encode(), digest_size=n_words * kind.itemsize).digest(), kind)


def _generator(key: str) -> np.random.Generator:
    source: Any = _Hashed(key)
    return np.random.Generator(np.random.SFC64(source))
