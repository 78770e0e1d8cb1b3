"""The data sets that a configuration can name, as plain arrays; dealing them out is `partition`'s work."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from byzflow.exceptions import ConfigError
from byzflow.experiments.tables import within

__all__ = ("DATA", "Data", "Digits", "Mnist", "Split", "read_idx")


@dataclass(frozen=True)
class Split:
    """Images in [0, 1] as ``(rows, channels, height, width)`` float32 and labels as ``(rows,)`` int64."""

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, ``(channels, height, width)``."""
        return self.x_train.shape[1:]


class Data(Protocol):
    """What every data set offers."""

    classes: ClassVar[int]

    def load(self, rng: np.random.Generator) -> Split:
        """Read the set; where it has no test rows of its own, hold some out as `rng` says."""


@dataclass(frozen=True)
class Digits:
    """The 1,797 handwritten digits of 8 × 8 pixels that ship with scikit-learn.

    Parameters
    ----------
    test_fraction : float, default 0.2
        Share of the rows that is held out; ``0 < test_fraction < 1``.

    Examples
    --------
    >>> split = Digits().load(np.random.default_rng(0))
    >>> split.x_train.shape, split.x_test.shape
    ((1438, 1, 8, 8), (359, 1, 8, 8))
    """

    test_fraction: float = 0.2
    classes: ClassVar[int] = 10

    def __post_init__(self) -> None:
        within("[data]", 0, 1, test_fraction=self.test_fraction)

    def load(self, rng: np.random.Generator) -> Split:
        """Read the digits and hold rows out for the test."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = (digits.images / 16).astype(np.float32)[:, None]
        return _hold_out(images, digits.target.astype(np.int64), self.test_fraction, rng)


@dataclass(frozen=True)
class Mnist:
    """A folder with the IDX files of MNIST, gzip-compressed or not.

    With ``train-*`` files, those are the training rows and ``t10k-*`` the test rows. With only ``t10k-*``, a
    share of its 10,000 rows is held out.

    Parameters
    ----------
    path : path-like
        The folder; ``~`` at its beginning is the home folder.
    test_fraction : float, default 0.2
        Share of the rows held out when there are no ``train-*`` files; ``0 < test_fraction < 1``.
    """

    path: Path | str
    test_fraction: float = 0.2
    classes: ClassVar[int] = 10

    def __post_init__(self) -> None:
        within("[data]", 0, 1, test_fraction=self.test_fraction)

    def load(self, rng: np.random.Generator) -> Split:
        """Read the files."""
        x_test, y_test = self._pair("t10k")
        if not list(self._folder.glob("train-images*")):
            return _hold_out(x_test, y_test, self.test_fraction, rng)
        x_train, y_train = self._pair("train")
        return Split(x_train, y_train, x_test, y_test)

    @property
    def _folder(self) -> Path:
        return Path(self.path).expanduser()

    def _pair(self, prefix: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        images, labels = (read_idx(self._find(f"{prefix}-{what}")) for what in ("images", "labels"))
        return images[:, None].astype(np.float32) / np.float32(255), labels.astype(np.int64)

    def _find(self, stem: str) -> Path:
        found = sorted(self._folder.glob(f"{stem}*"))
        if not found:
            raise ConfigError(
                f"[data] path must be a folder with a file {stem}-idx*-ubyte or the same with .gz; "
                f"got {str(self.path)!r}, which has none. Correct the path."
            )
        return found[0]


DATA: Mapping[str, type[Data]] = MappingProxyType({"digits": Digits, "mnist": Mnist})


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of bytes, gzip-compressed or not.

    Raises
    ------
    ConfigError
        If the file is not an IDX file of unsigned bytes, or is cut short.
    """
    raw = path.read_bytes()
    content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    if content[:3] != b"\x00\x00\x08":
        raise ConfigError(
            f"An IDX file starts with the bytes 0, 0, 8; got {content[:3]!r} in {path}. Fetch it again."
        )
    rank = content[3]
    shape = tuple(np.frombuffer(content, ">u4", count=rank, offset=4).tolist())
    body = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if body.size != np.prod(shape):
        raise ConfigError(f"{path} announces shape {shape}; got {body.size} bytes. Fetch it again.")
    return body.reshape(shape)


def _hold_out(
    x: NDArray[np.float32], y: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> Split:
    order = rng.permutation(y.size)
    cut = max(1, round(fraction * y.size))
    test, train = order[:cut], order[cut:]
    return Split(x[train], y[train], x[test], y[test])
