"""Checkpoints: one safetensors file with a JSON header, written whole or not at all.

Any tree of dicts, lists, tensors, arrays, bytes and plain values goes in. Reading runs no code; states of
nodes of the user's own classes are pickles inside and are opened only by those nodes.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import save

from byzflow.engine.actor.vec import bytes_of
from byzflow.engine.rounds.plain import plain
from byzflow.engine.whole import write_whole
from byzflow.exceptions import CheckpointError

__all__ = ("Checkpoint",)

FORMAT = "byzflow-checkpoint"
VERSION = 2
READABLE = ("1", "2")  # the checksum of the first tells neither names nor forms of tensors


@dataclass(frozen=True)
class Checkpoint:
    """A file that holds the latest state of a run.

    Parameters
    ----------
    path : path-like
        The file; its folder is made if missing.
    every : int, default 10
        Rounds from one writing to the next.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> checkpoint = Checkpoint(Path(folder.name) / "run.safetensors")
    >>> checkpoint.write({"round": 3, "model": {"w": torch.ones(2)}})
    >>> checkpoint.read()
    {'round': 3, 'model': {'w': tensor([1., 1.])}}
    >>> folder.cleanup()
    """

    path: str | os.PathLike[str]
    every: int = 10

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike):
            raise TypeError(
                f"path must be a str or path-like; got {self.path!r}. Pass Checkpoint(path, every=rounds)."
            )
        if Path(self.path).is_dir():
            raise ValueError(
                f"path must name a file; {os.fspath(self.path)!r} is a folder. Add a file's name."
            )
        if not isinstance(self.every, int | np.integer) or self.every < 1:
            raise ValueError(f"every must be a number of rounds, at least 1; got {self.every!r}. Raise it.")

    @classmethod
    def of(cls, spec: Checkpoint | str | os.PathLike[str] | None) -> Checkpoint | None:
        """Return a checkpoint for a path, or what is one already.

        Examples
        --------
        >>> Checkpoint.of("run.safetensors").every
        10
        """
        return spec if spec is None or isinstance(spec, Checkpoint) else cls(spec)

    def due(self, rounds: int) -> bool:
        """Whether to write after this many rounds."""
        return rounds % self.every == 0

    def write(self, tree: Mapping[str, Any]) -> None:
        """Write a tree; whoever reads meanwhile, or after a crash, finds the old file or the new one.

        Raises
        ------
        CheckpointError
            If the tree holds something that cannot be stored, or the file cannot be written.
        """
        tensors: dict[str, torch.Tensor] = {}
        body = json.dumps(_flatten(plain(tree, "tree", depth=0), tensors))
        version = str(VERSION)
        checksum = _checksum(body, tensors, version)
        header = {"format": FORMAT, "version": version, "tree": body, "crc32": checksum}
        try:
            write_whole(self.path, save(tensors, metadata=header))
        except OSError as error:
            raise CheckpointError(
                f"A checkpoint must be written to {os.fspath(self.path)!r}; that failed ({error}). What was "
                "there is as it was. Make room or give rights there, or take another path."
            ) from error

    def read(self) -> dict[str, Any]:
        """Return the tree.

        Raises
        ------
        CheckpointError
            If there is no file, or it is torn, or not one of these.
        """
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
        except FileNotFoundError:
            raise self._refused("there is no such file", "Check the path, or start anew") from None
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise self._refused(
                f"it cannot be read ({error})", "It is torn or no checkpoint; remove it"
            ) from error
        if header.get("format") != FORMAT:
            raise self._refused("it has no byzflow header", "It was written by something else; take another")
        version = header.get("version", "none")
        if version not in READABLE:
            got = f"it has version {version}, this package reads {' and '.join(READABLE)}"
            raise self._refused(got, "Read it with the version that wrote it")
        if header.get("crc32") != _checksum(header.get("tree", ""), tensors, version):
            raise self._refused("its checksum is wrong", "It is damaged; take an older one")
        try:
            tree = _unflatten(json.loads(header["tree"]), tensors)
        except (LookupError, TypeError, ValueError) as error:
            raise self._refused(f"its tree cannot be read ({error!r})", "Take another") from error
        if not isinstance(tree, dict):
            raise self._refused(f"it holds a {type(tree).__name__} and no tree", "Take another")
        return tree

    def _refused(self, got: str, do: str) -> CheckpointError:
        return CheckpointError(f"{os.fspath(self.path)!r} must be a byzflow checkpoint; {got}. {do}.")


def _flatten(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return the JSON skeleton of a plain tree; what is not JSON goes to `tensors`."""
    if isinstance(value, dict):
        return {"map": [[_flatten(k, tensors), _flatten(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_flatten(item, tensors) for item in value]}
    if isinstance(value, torch.Tensor):
        return _keep("torch", value.clone(), tensors)
    if isinstance(value, bytes):
        raw = torch.frombuffer(bytearray(value or b"\0"), dtype=torch.uint8)
        return _keep("bytes", raw, tensors) | {"length": len(value)}
    if isinstance(value, np.ndarray):
        raw = torch.from_numpy(np.frombuffer(value.tobytes() or b"\0", dtype=np.uint8).copy())
        return _keep("numpy", raw, tensors) | {"dtype": value.dtype.str, "shape": list(value.shape)}
    return value


def _keep(kind: str, tensor: torch.Tensor, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    name = f"t{len(tensors)}"
    tensors[name] = tensor
    return {kind: name}


def _unflatten(node: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    if "map" in node:
        return {_unflatten(k, tensors): _unflatten(v, tensors) for k, v in node["map"]}
    if "list" in node:
        return [_unflatten(v, tensors) for v in node["list"]]
    if "tuple" in node:
        return tuple(_unflatten(v, tensors) for v in node["tuple"])
    if "torch" in node:
        return tensors[node["torch"]]
    if "bytes" in node:
        return tensors[node["bytes"]].numpy().tobytes()[: node["length"]]
    dtype, shape = np.dtype(node["dtype"]), tuple(node["shape"])
    raw = tensors[node["numpy"]].numpy().tobytes()
    return np.frombuffer(raw, dtype=dtype, count=int(np.prod(shape))).reshape(shape).copy()


def _checksum(body: str, tensors: Mapping[str, torch.Tensor], version: str) -> str:
    total = zlib.crc32(body.encode())
    for name in sorted(tensors):
        if version != "1":
            total = zlib.crc32(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode(), total)
        total = zlib.crc32(bytes_of(tensors[name]).numpy().tobytes(), total)
    return f"{total:08x}"
