"""One message as one parcel: handed over as it is inside a process, sealed to bytes between processes.

A parcel is opened by whoever uses what is inside, not by the connection that carries it. So an object
that cannot be pickled, or a class that the other side does not have, is an error of that one message
and not a broken connection.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from operator import getitem
from typing import Any

import cloudpickle
import numpy as np
from dask.sizeof import sizeof
from distributed.protocol.serialize import dask_deserialize, dask_serialize

from byzflow.engine.actor.calls import Recorder
from byzflow.engine.actor.stack import Stack, stackable
from byzflow.engine.actor.vec import Header, is_tensor, pack, unpack

__all__ = ("Parcel", "seal", "unseal")


INLINE = 64 * 1024  # [bytes] up to which an array is copied into the pickle
PLACE = b"a frame that is not known yet"

_OPENING = threading.RLock()
"""Two threads that import modules of one package for the first time may deadlock on its ``__init__``."""


class Parcel:
    """Anything, on its way to another worker.

    Examples
    --------
    >>> Parcel({"lr": 0.1}).open()
    {'lr': 0.1}
    """

    __slots__ = ("_frames", "_value")

    def __init__(self, value: Any = None, *, frames: list[Any] | None = None) -> None:
        self._value = value
        self._frames = frames

    @property
    def frames(self) -> list[Any]:
        """The bytes of a sealed parcel: the pickle, and what is large in it."""
        return [] if self._frames is None else self._frames

    def open(self) -> Any:
        """Return what is inside: the object itself in the process that packed it, else a copy."""
        return self._value if self._frames is None else unseal(self._frames)

    def sealed(self, *, gathered: bool = False) -> Parcel:
        """Return the same parcel as bytes, so that what cannot be pickled is an error here and now."""
        return self if self._frames is not None else Parcel(frames=seal(self._value, gathered=gathered))

    def copied(self) -> Parcel:
        """Return the same parcel as bytes of its own: what is sent again later is what it was now."""
        pickled, *arrays = self.sealed().frames
        return Parcel(frames=[pickled, *map(bytearray, arrays)])

    def __reduce__(self) -> tuple[Any, ...]:
        frames = seal(self._value) if self._frames is None else self._frames
        shown: list[Any] = [np.frombuffer(frame, np.uint8) for frame in frames]  # why, says `pack`
        return _arrived, tuple(map(pickle.PickleBuffer, shown))


def seal(value: Any, *, gathered: bool = False) -> list[Any]:
    """Pickle `value` to a list of frames, the arrays in it out of band and without a copy.

    Parameters
    ----------
    value : object
        What travels.
    gathered : bool, default False
        Whether small vectors of one form travel, and arrive, as rows of one matrix: for many of them.

    Raises
    ------
    TypeError
        If something in `value` cannot be pickled.
    """
    frames: list[Any] = []
    with Recorder() as plain:
        frames = _dump(_Gatherer if gathered else _Pickler, value)
    if plain.error is None and b"__main__" not in frames[0]:
        return frames
    with Recorder() as by_value:
        frames = _dump(_CloudPickler, value)
    if by_value.error is None:
        return frames
    raise TypeError(
        f"What goes to another process must be picklable; got {type(value).__name__}, which is not "
        f"({by_value.error}). Pass plain data, or use the 'thread' backend."
    ) from by_value.error


def unseal(frames: list[Any]) -> Any:
    """Build the object that `seal` pickled; one at a time in a process, as that may import modules."""
    with _OPENING:
        return pickle.loads(frames[0], buffers=frames[1:])


def _dump(kind: type[pickle.Pickler], value: Any) -> list[Any]:
    frames: list[Any] = []

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        """Keep small arrays in the pickle; a frame of its own costs more than their copy."""
        frame = buffer.raw()
        is_inside = frame.nbytes <= INLINE and frame.obj is not PLACE
        if not is_inside:
            frames.append(frame)
        return is_inside

    stream = io.BytesIO()
    pickler = kind(stream, protocol=5, buffer_callback=is_small)
    pickler.dump(value)
    if isinstance(pickler, _Gatherer):
        gathered = iter(pickler.sheets.values())
        frames = [next(gathered).frame() if frame.obj is PLACE else frame for frame in frames]
    return [stream.getvalue(), *frames]


def _tensor(header: Any, frame: Any) -> Any:
    return unpack(header, frame)


def _rows(header: Header, frame: Any) -> Sequence[Any]:
    library, dtype, shape, device, graded = header
    return Stack(unpack((library, dtype, (-1, *shape), device, graded), frame)).rows()


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if is_tensor(value):
            header, frame = pack(value)
            return _tensor, (header, pickle.PickleBuffer(frame))
        return NotImplemented


class _Gatherer(_Pickler):
    """Pickles a vector as a row of the matrix of all of its form, which is filled when all are known."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sheets: defaultdict[Any, _Sheet] = defaultdict(_Sheet)

    def reducer_override(self, value: Any) -> Any:
        form = stackable(value)
        if form is None:
            return super().reducer_override(value)
        sheet = self.sheets[form]
        sheet.vectors.append(value)
        return getitem, (sheet, len(sheet.vectors) - 1)


class _Sheet:
    """Vectors of one form, in a frame of their own; until all are known, another keeps its place."""

    def __init__(self) -> None:
        self.vectors: list[Any] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return _rows, (pack(self.vectors[0])[0], pickle.PickleBuffer(PLACE))

    def frame(self) -> Any:
        return pack(Stack.of(self.vectors).matrix)[1]


class _CloudPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def reducer_override(self, value: Any) -> Any:
        if is_tensor(value):
            header, frame = pack(value)
            return _tensor, (header, pickle.PickleBuffer(frame))
        return super().reducer_override(value)


def _arrived(*frames: Any) -> Parcel:
    return Parcel(frames=list(frames))


def _serialize(parcel: Parcel) -> tuple[dict[str, Any], list[Any]]:
    frames = seal(parcel._value) if parcel._frames is None else parcel._frames
    return {"sizes": [memoryview(frame).nbytes for frame in frames]}, frames


def _deserialize(header: dict[str, Any], frames: list[Any]) -> Parcel:
    return Parcel(frames=list(frames))


def _sizeof(parcel: Parcel) -> int:
    frames = parcel._frames
    return sizeof(parcel._value) if frames is None else sys.getsizeof(frames) + sum(map(len, frames))


dask_serialize.register(Parcel, _serialize)
dask_deserialize.register(Parcel, _deserialize)
sizeof.register(Parcel, _sizeof)
