"""What a user has set for the whole process changes no bit of any rule."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from byzflow.testing import assert_same, rows, run_eager
from byzflow.testing.vectors import cast
from tests.cases import CASES


@contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def only_deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS = {
    "device": lambda: default_device("meta"),  # stands for a GPU, beside vectors on the CPU
    "float64": lambda: default_dtype(torch.float64),
    "deterministic": only_deterministic,
    "errors": lambda: np.errstate(all="raise"),
    "inference": torch.inference_mode,
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_settings_of_the_process_change_no_bit(case: Any, setting: str) -> None:
    vectors = cast(rows(case.laws.n, 33), "torch-float32")
    expected = run_eager(case.make(), vectors)

    def run() -> Any:
        with SETTINGS[setting]():
            return run_eager(case.make(), vectors)

    with ThreadPoolExecutor(1) as thread:  # a new one has no memory of its own to use again
        got = thread.submit(run).result()
    assert_same(got, expected, f"{case.name} with {setting}")
