"""Numbers that are a function of a key and a place: normal ones, by a ziggurat, and those of an order."""

from __future__ import annotations

from functools import cache
from math import erfc, exp, log, pi, sqrt
from typing import Any

import numpy as np

from byzflow.kernels.native.loops import loop

__all__ = ("shuffled", "write_normals", "ziggurat")

_LAYERS = 256

_EDGE = 3.6541528853610088
"""Where the tail begins if it and all layers have one area (Marsaglia and Tsang 2000)."""

_STEP, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""Constants of SplitMix64 (Steele, Lea, Flood 2014)."""

_SIGN, _LAYER, _UNIT = np.uint64(256), np.uint64(255), 2.0**-53


@cache
def ziggurat() -> tuple[np.ndarray, np.ndarray]:
    """Return the widths of the layers from below, (257,), and the density ``exp(-x**2 / 2)`` at them.

    The first width is that of a rectangle with the area of the lowest layer and its tail.

    Examples
    --------
    >>> ziggurat()[0][[1, 256]].round(3)
    array([3.654, 0.   ])
    """
    density = exp(-0.5 * _EDGE * _EDGE)
    area = _EDGE * density + sqrt(pi / 2.0) * erfc(_EDGE / sqrt(2.0))
    widths = [area / density, _EDGE]
    while len(widths) < _LAYERS:
        density += area / widths[-1]
        widths.append(sqrt(-2.0 * log(density)))
    x = np.array([*widths, 0.0])
    return x, np.exp(-0.5 * x * x)


@loop()
def _mixed(h: Any) -> Any:
    h = (h ^ (h >> np.uint64(30))) * _FIRST
    h = (h ^ (h >> np.uint64(27))) * _SECOND
    return h ^ (h >> np.uint64(31))


@loop()
def _unit(h: Any) -> float:
    """Return a number in (0, 1) from the upper 53 bits of a word; the lower ones are left."""
    return (np.float64(h >> np.uint64(11)) + 0.5) * _UNIT


@loop()
def _beside(h: Any, x: Any, density: Any) -> Any:
    """Return what the words from `h` on give, whose first one lies beside the inner part of its layer."""
    while True:
        layer = h & _LAYER
        value = _unit(h) * x[layer]
        sign = -1.0 if h & _SIGN else 1.0
        if value < x[layer + np.uint64(1)]:
            return sign * value
        if layer == 0:
            while True:
                h = _mixed(h + _STEP)
                beyond = -np.log(_unit(h)) / _EDGE
                h = _mixed(h + _STEP)
                if -2.0 * np.log(_unit(h)) > beyond * beyond:
                    return sign * (_EDGE + beyond)
        h = _mixed(h + _STEP)
        low, high = density[layer], density[layer + np.uint64(1)]
        if low + _unit(h) * (high - low) < np.exp(-0.5 * value * value):
            return sign * value
        h = _mixed(h + _STEP)


@loop()
def write_normals(a: Any, b: Any, start: Any, mu: Any, sigma: Any, x: Any, density: Any, out: Any) -> None:
    """Write numbers of N(mu, sigma²) for the columns from `start` on into `out`, (w,).

    `a` and `b`, whole numbers, are the key; `x` and `density` come from `ziggurat`.
    """
    first, second = np.uint64(a), np.uint64(b)
    for c in range(out.shape[0]):
        h = _mixed(_mixed(first + np.uint64(start + c) * _STEP) ^ second)
        layer = h & _LAYER
        value = _unit(h) * x[layer]
        if value < x[layer + np.uint64(1)]:
            value = -value if h & _SIGN else value
        else:
            value = _beside(h, x, density)
        out[c] = mu + sigma * value


@loop()
def shuffled(key: Any, n: Any) -> Any:
    """Return 0 ... n - 1 in a random order (Fisher, Yates) that follows from `key`, a whole number."""
    first = np.uint64(key)
    order = np.arange(n)
    for i in range(n - 1, 0, -1):
        j = np.int64(_mixed(first + np.uint64(i) * _STEP) % np.uint64(i + 1))
        order[i], order[j] = order[j], order[i]
    return order
