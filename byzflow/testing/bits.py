"""The laws about bits: every path, cut, copy and thread gives the same ones, and inputs keep theirs."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from byzflow.operators.base import OpContext, Operator
from byzflow.testing.compare import assert_same
from byzflow.testing.laws import Laws
from byzflow.testing.paths import PATHS, inputs_of, run_dask_array, run_eager
from byzflow.testing.vectors import as_float64, cast, hostile_rows, rows, sizes

__all__ = (
    "check_chunk_size",
    "check_dask_array",
    "check_inputs_untouched",
    "check_paths",
    "check_repeatable",
    "check_subtasks_grow",
    "check_subtasks_travel",
)


def check_chunk_size(op: Operator, laws: Laws) -> None:
    """A chunk size is a hint about scheduling and never changes a bit."""
    names: list[str] = (
        [f.name for f in fields(op) if f.name.endswith("chunk_size")] if is_dataclass(op) else []
    )
    vectors = cast(rows(laws.n, sizes(laws.n)[-1]), "numpy-float64")
    expected = run_eager(op, vectors)
    for name in names:
        for size in (1, 3, 1000, 10**9):
            variant: Any = replace(op, **{name: size})  # type: ignore[type-var]  # a dataclass, checked above
            assert_same(run_eager(variant, vectors), expected, f"{name}={size}")
            assert_same(PATHS["subtasks"](variant, vectors), expected, f"{name}={size}, subtasks")


def check_dask_array(op: Operator, laws: Laws) -> None:
    """A chunked dask array gives the bits of the eager call, however it is cut."""
    d = sizes(laws.n)[-1]
    ragged = (laws.n, (1, 1025, d - 1026))
    drawn = {
        "float64": (rows(laws.n, d), ((laws.n, d), (laws.n, d // 4), ragged)),
        "float32": (
            hostile_rows(laws.n, d, "nan") if laws.hostile else rows(laws.n, d),
            ((max(1, laws.n // 2), 20_000), ragged),
        ),
        "int32": (9.0 * rows(laws.n, d), ((laws.n, d // 4),)),
    }
    for dtype, (wide, cuts) in drawn.items():
        X = wide.astype(dtype)
        answers = "float64" if dtype == "int32" else dtype
        expected = as_float64(run_eager(op, list(X)))
        for chunks in cuts:
            got = run_dask_array(op, X, chunks=chunks)
            assert_same(as_float64(got), expected, f"dask array {dtype} in chunks {chunks}")
            if got.dtype != answers:
                raise AssertionError(f"dask array {dtype}: needs dtype {answers}; got {got.dtype}.")


def check_inputs_untouched(op: Operator, laws: Laws) -> None:
    """Inputs may be read-only and keep their values; outputs share no memory with them or each other."""
    for d in (7, sizes(laws.n)[-1]):
        before = rows(laws.n, d)
        vectors = cast(before, "numpy-float64")
        for vector in vectors:
            vector.setflags(write=False)
        for path, run in {"eager": run_eager, **PATHS}.items():
            out = run(op, vectors)
            arrays = list(out) if isinstance(out, (list, tuple)) else [out]
            assert_same(vectors, list(before), f"inputs after path {path}")
            for index, array in enumerate(arrays):
                others = vectors + arrays[:index]
                if any(np.shares_memory(array, other) for other in others):
                    raise AssertionError(
                        f"path {path}: output {index} shares memory with an input or output."
                    )
                if not array.flags.writeable:
                    raise AssertionError(
                        f"path {path}: output {index} is read-only; outputs belong to the caller."
                    )


def check_paths(op: Operator, laws: Laws) -> None:
    """Subtasks, a pool and a compiled graph give the bits of the eager call."""
    for kind in ("numpy-float64", "torch-float32", "torch-bfloat16", "array-api-strict"):
        for d in sizes(laws.n)[: 3 if kind in ("numpy-float64", "torch-bfloat16") else 2]:
            vectors = cast(rows(laws.n, d), kind)
            expected = run_eager(op, vectors)
            for path, run in PATHS.items():
                assert_same(run(op, vectors), expected, f"path {path}, {kind}, d={d}")


def check_repeatable(op: Operator, laws: Laws) -> None:
    """The same bits again, from a pickled copy, and from three threads that share the operator."""
    vectors = cast(rows(laws.n, sizes(laws.n)[-1]), "torch-float32")
    expected = run_eager(op, vectors)
    assert_same(run_eager(pickle.loads(pickle.dumps(op)), vectors), expected, "a pickled copy")
    with ThreadPoolExecutor(3) as threads:
        for got in threads.map(lambda _: run_eager(op, vectors), range(3)):
            assert_same(got, expected, "one operator in three threads")


def check_subtasks_grow(op: Operator, laws: Laws) -> None:
    """A larger pool gets more subtasks, of short vectors too."""
    for d in (16, 20_000):
        inputs = inputs_of(op, cast(rows(laws.n, d), "torch-float32"))
        counts = [
            len(list(op.create_subtasks(inputs, context=OpContext("check", metadata={"pool_size": size}))))
            for size in (1, 8)
        ]
        if any(counts) and not counts[0] < counts[1]:
            raise AssertionError(f"d={d}: pools of 1 and 8 need more subtasks each; got {counts}.")


def check_subtasks_travel(op: Operator, laws: Laws) -> None:
    """Subtasks and their results survive pickling, as they must to reach another process."""
    vectors = cast(rows(laws.n, sizes(laws.n)[-1]), "numpy-float32")
    inputs = inputs_of(op, vectors)
    nowhere: Any = None  # a context is optional here
    subtasks = pickle.loads(pickle.dumps(list(op.create_subtasks(inputs, context=nowhere))))
    if not subtasks:
        return
    partials = [pickle.loads(pickle.dumps(t.fn(*t.args, **dict(t.kwargs)))) for t in subtasks]
    got = op.reduce_subtasks(partials, inputs, context=nowhere)
    assert_same(got, run_eager(op, vectors), "pickled subtasks")
