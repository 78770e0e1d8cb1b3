"""The library chosen for Python numbers is the answer's, and arrays do not care."""

from __future__ import annotations

import asyncio
import threading

import array_api_strict
import numpy as np
import pytest
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.geometric_wise import MultiKrum
from byzflow.attacks import EmpireAttack
from byzflow.configs.backend import get_backend, set_backend, use_backend
from byzflow.pre_aggregators import Clipping

NUMBERS = [[1, 2], [3, 1], [5, 9]]


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        ("numpy", np.ndarray),
        ("torch", torch.Tensor),
        ("pytorch", torch.Tensor),
        (np, np.ndarray),
        (torch, torch.Tensor),
        (array_api_strict, type(array_api_strict.zeros(1))),
    ],
)
def test_numbers_come_out_in_the_chosen_library(backend, kind):
    with use_backend(backend) as namespace:
        assert get_backend() is namespace
        answers = [
            CoordinateWiseMedian().aggregate(NUMBERS),
            MultiKrum(f=1, q=1).aggregate([tuple(row) for row in NUMBERS]),
            *Clipping(100.0).pre_aggregate(NUMBERS),
            EmpireAttack().apply(honest_grads=NUMBERS),
        ]
    assert {type(answer) for answer in answers} == {kind}
    expected = CoordinateWiseMedian().aggregate(np.array(NUMBERS, float))
    assert np.asarray(answers[0]).tolist() == expected.tolist()
    assert "float64" in str(answers[0].dtype)


def test_arrays_keep_their_own_library():
    with use_backend("torch"):
        assert type(CoordinateWiseMedian().aggregate([np.ones(2)] * 3)) is np.ndarray
    with use_backend("numpy"):
        assert type(CoordinateWiseMedian().aggregate([torch.ones(2)] * 3)) is torch.Tensor


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_numbers_among_arrays_follow_the_first(backend):
    with use_backend(backend):
        assert type(CoordinateWiseMedian().aggregate([np.ones(2), [1, 1], [1, 1]])) is np.ndarray
        assert type(CoordinateWiseMedian().aggregate([torch.ones(2), [1, 1], [1, 1]])) is torch.Tensor


def test_the_block_ends_with_what_was_chosen_before():
    before = get_backend()
    with pytest.raises(KeyError), use_backend("torch"):
        raise KeyError
    assert get_backend() is before


async def test_a_choice_holds_in_the_task_that_made_it_and_those_it_starts():
    before = get_backend()

    async def choose():
        set_backend("torch")
        return await asyncio.to_thread(get_backend), await asyncio.create_task(ask())

    async def ask():
        return get_backend()

    seen = await asyncio.create_task(choose())
    assert {one.__name__ for one in seen} == {"array_api_compat.torch"}
    assert get_backend() is before
    elsewhere = []
    with use_backend("torch"):
        thread = threading.Thread(target=lambda: elsewhere.append(get_backend()))
        thread.start()
        thread.join()
    assert elsewhere == [before]


def test_an_unknown_name_is_a_value_error():
    with pytest.raises(ValueError, match="one of numpy, pytorch, torch"):
        set_backend("jax")


@pytest.mark.parametrize("backend", [None, 3, object(), threading])
def test_another_object_is_a_type_error(backend):
    with pytest.raises(TypeError, match="a name or a namespace"), use_backend(backend):
        pass
