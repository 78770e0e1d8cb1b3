"""Answers that are no fit vector of three float32 entries, drawn at random; the code of many bites."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

from byzflow.exceptions import NodeLostError


def _bite(*args: Any, **kwargs: Any) -> Any:
    raise SystemExit("bitten")


class UnreadableError(Exception):
    __str__ = __repr__ = add_note = _bite


class LiesAboutItself:
    """An object that claims to be a tensor."""

    shape, dtype, device, ndim, nbytes = (3,), torch.float32, torch.device("cpu"), 1, 12
    __len__ = __array__ = __iter__ = __eq__ = __bool__ = detach = numpy = reshape = _bite
    __hash__ = object.__hash__

    @property
    def __class__(self):
        return torch.Tensor


class Bites:
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


class MetaBites(type):
    __name__ = property(_bite)
    __module__ = property(_bite)


def _of_biting_kind(rng: np.random.Generator) -> Any:
    return MetaBites("Kind", (), {})()


class BitingTensor(torch.Tensor):
    shape = dtype = device = layout = property(_bite)
    detach = reshape = is_complex = as_subclass = numpy = clone = _bite

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        raise SystemExit("bitten")


class DispatchingTensor(torch.Tensor):
    @staticmethod
    def __new__(cls):
        return torch.Tensor._make_wrapper_subclass(cls, (3,), dtype=torch.float32)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise SystemExit("bitten")


class BitingArray(np.ndarray):
    shape = dtype = property(_bite)
    copy = reshape = view = astype = _bite

    def __array_ufunc__(self, *args, **kwargs):
        raise SystemExit("bitten")


@cache
def _quantized() -> Any:
    with warnings.catch_warnings(action="ignore"):
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)


@cache
def _ragged() -> Any:
    with warnings.catch_warnings(action="ignore"):
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(1)])


@cache
def without_memory() -> tuple[torch.Tensor, ...]:
    """Return tensors that look like any other: one that was freed, and wrappers that escaped."""
    freed, inside = torch.ones(3), list[Any]()
    freed.untyped_storage().resize_(0)
    with warnings.catch_warnings(action="ignore"):
        torch.func.functionalize(lambda x: inside.append(x) or x)(torch.ones(3))
        torch.func.vmap(lambda x: inside.append(x) or x)(torch.ones(1, 3))
        torch.func.jvp(lambda x: inside.append(x) or x, (torch.ones(3),), (torch.ones(3),))
    return freed, *inside


def _spoiled(rng: np.random.Generator) -> Any:
    """A vector of the right form with entries that are not finite."""
    vector = torch.randn(3, generator=torch.Generator().manual_seed(int(rng.integers(2**31))))
    vector[int(rng.integers(3))] = float(rng.choice([np.nan, np.inf, -np.inf]))
    return vector.requires_grad_() if rng.random() < 0.3 else vector


def _misshapen(rng: np.random.Generator) -> Any:
    shape = tuple(int(k) for k in rng.integers(0, 4, size=int(rng.integers(0, 4))))
    return torch.ones(shape if shape != (3,) else (3, 1))


def _of_other_type(rng: np.random.Generator) -> Any:
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.uint8, torch.bool,
             torch.complex64, torch.float8_e4m3fn]  # fmt: skip
    return torch.ones(3).to(kinds[rng.integers(len(kinds))])


def _numpy(rng: np.random.Generator) -> Any:
    kinds = ["f4", ">f4", "f8", "f2", "i8", "?", "c8", "U3", "O", "M8[s]", "V4", "S2", "g"]
    return np.ones(3).astype("i4").astype(kinds[rng.integers(len(kinds))])


def _nested(rng: np.random.Generator) -> Any:
    return [[torch.ones(3)] * 2, {"vector": torch.ones(3)}, (1.0, (2.0, 3.0))][int(rng.integers(3))]


VALUES: tuple[Callable[[np.random.Generator], Any], ...] = (
    lambda rng: _quantized(), lambda rng: _ragged(),
    _spoiled, _spoiled, _misshapen, _misshapen, _of_other_type, _numpy, _nested,
    lambda rng: without_memory()[int(rng.integers(4))],
    lambda rng: [None, "text" * 100, b"bytes", 3.5, 10**400, float("nan"), object(), _bite, Ellipsis, int][
        rng.integers(10)
    ],
    lambda rng: {int(rng.integers(9)): torch.ones(3)},
    lambda rng: torch.ones(3).to_sparse(),
    lambda rng: torch.ones(3, device="meta"),
    lambda rng: torch.ones(1).expand(10 ** int(rng.integers(10, 18))),
    lambda rng: np.broadcast_to(np.float32(1), (10 ** int(rng.integers(10, 18)),)),
    lambda rng: torch.full((3,), torch.nan).as_subclass(BitingTensor),
    lambda rng: torch.ones(4).as_subclass(BitingTensor),
    lambda rng: torch.nn.Parameter(torch.full((3,), torch.inf)),
    lambda rng: DispatchingTensor(),
    lambda rng: np.ones(3, dtype=np.float32).view(BitingArray),
    lambda rng: np.ma.masked_array([1.0, 2.0, 3.0], mask=[0, 1, 0]),
    lambda rng: LiesAboutItself(), lambda rng: Bites(), _of_biting_kind,
    lambda rng: UnreadableError(),
)  # fmt: skip

ERRORS: tuple[Callable[[np.random.Generator], BaseException], ...] = (
    lambda rng: UnreadableError(),
    lambda rng: ValueError("x" * 10**6),
    lambda rng: ZeroDivisionError(),
    lambda rng: NodeLostError("I pretend"),
    lambda rng: TimeoutError(),
    lambda rng: KeyboardInterrupt(),
    lambda rng: SystemExit(Bites()),
    lambda rng: GeneratorExit(),
    lambda rng: ExceptionGroup("many", [ValueError("one"), UnreadableError()]),
    lambda rng: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a\nb"),
    lambda rng: RecursionError(),
    lambda rng: MemoryError(),
)


def malformed(rng: np.random.Generator) -> tuple[Any, BaseException | None]:
    """Draw an answer: a value or an error."""
    if rng.random() < 0.25:
        return None, ERRORS[rng.integers(len(ERRORS))](rng)
    return VALUES[rng.integers(len(VALUES))](rng), None


class Malformed:
    """A node that answers so in every call of a round."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def honest_gradient_for_next_batch(self) -> Any:
        value, error = malformed(self.rng)
        if error is not None:
            raise error
        return value

    def byzantine_gradient_for_next_batch(self, honest_grads: Any) -> Any:
        return self.honest_gradient_for_next_batch()

    def apply_server_gradient(self, g: Any) -> None:
        self.honest_gradient_for_next_batch()

    def p2p_half_step(self, lr: float) -> Any:
        return self.honest_gradient_for_next_batch()

    def p2p_aggregate_and_set(self, own: Any, neighbors: Any) -> None:
        raise AssertionError("a node without a half step has nothing to aggregate")

    def p2p_broadcast_vector(self, neighbor_vectors: Any = None, like: Any = None) -> Any:
        return self.honest_gradient_for_next_batch()
