"""Stacks: what a borrower keeps or writes reaches nobody else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from byzflow.engine.actor.parcel import Parcel
from byzflow.engine.actor.stack import Stack, stacked
from byzflow.engine.rounds.resident import Resident

VECTORS = {
    "numpy": tuple(np.full(3, float(i)) for i in range(4)),
    "torch": tuple(torch.full((3,), float(i), dtype=torch.bfloat16) for i in range(4)),
}


class Vandal:
    """Keeps a part of what it is shown, and spoils the rest."""

    def byzantine_gradient_for_next_batch(self, shown):
        self.kept = shown[2][1:]
        seen = [float(vector.sum()) for vector in shown]
        for vector in shown:
            vector[0] = -7.0
        return np.array(seen)


@pytest.mark.parametrize("library", VECTORS)
def test_vectors_come_out_of_a_sealed_stack_as_they_went_in(library):
    got = Parcel(frames=Parcel(stacked(VECTORS[library])).sealed()._frames).open().rows()
    assert [type(row) for row in got] == [type(row) for row in VECTORS[library]]
    assert all((a == b).all() and a.dtype == b.dtype for a, b in zip(got, VECTORS[library], strict=True))


@pytest.mark.parametrize("library", VECTORS)
def test_a_node_sees_nothing_of_what_another_did_to_a_stack(library):
    stack, nodes = stacked(VECTORS[library]), [Resident(Vandal()) for _ in range(3)]
    seen = [node.resident_call(0, "byzantine_gradient_for_next_batch", (stack,)) for node in nodes]
    assert [one.tolist() for one in seen] == [[0.0, 3.0, 6.0, 9.0]] * 3
    for node in nodes:
        assert node.kept.tolist() == [2.0, 2.0]
        node.kept[:] = 5.0
    assert [float(row.sum()) for row in stack.rows()] == [0.0, 3.0, 6.0, 9.0]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_writing_to_a_row_of_a_stack_is_no_news_to_the_gradient_of_another(shape):
    one, other = stacked((torch.ones(shape), torch.ones(shape))).rows()
    loss = (one.requires_grad_() ** 2).sum()
    other.zero_()
    loss.backward()
    assert torch.equal(one.grad, torch.full(shape, 2.0))


@pytest.mark.parametrize("library", VECTORS)
def test_memory_is_lent_again_only_if_nobody_holds_a_part(library):
    stack = stacked(VECTORS[library])
    first, rows = stack.lend()
    del rows
    stack.take_back(first)
    second, rows = stack.lend()
    assert second is first
    kept = rows[1][1:]
    del rows
    stack.take_back(second)
    assert stack.lend()[0] is not first
    assert kept.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "vectors",
    [
        (),
        (np.ones(2), np.ones(3)),
        (torch.ones(2), np.ones(2)),
        (torch.ones(2, requires_grad=True),),
        (np.ones(1 << 16),),
        (np.ones(0),),
    ],
)
def test_vectors_without_one_small_form_stay_a_tuple(vectors):
    assert stacked(vectors) is vectors


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int8, np.float32, np.int16]
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (16,), (1000,)])
def test_rows_that_are_lent_begin_where_memory_of_their_own_would(dtype, shape):
    of_torch = isinstance(dtype, torch.dtype)
    vectors = [
        (torch.full(shape, i, dtype=dtype) if of_torch else np.full(shape, i, dtype)) for i in range(3)
    ]
    if not of_torch:
        vectors = [np.asarray(vector) for vector in vectors]
    stack = Stack.of(vectors)
    for _ in range(2):
        memory, rows = stack.lend()
        assert type(rows) is list
        for row, vector in zip(rows, vectors, strict=True):
            assert (row.data_ptr() if of_torch else row.ctypes.data) % 64 == 0
            assert row.dtype == vector.dtype
            assert row.shape == vector.shape
            assert (row == vector).all()
            row[...] = 7
        del rows, row
        stack.take_back(memory)
    assert all((row == vector).all() for row, vector in zip(stack.rows(), vectors, strict=True))


def test_what_was_a_list_comes_as_a_list_on_the_other_side_too():
    shown = Parcel(stacked([torch.ones(2), torch.zeros(2)])).sealed().open()
    assert type(shown.rows()) is type(shown.lend()[1]) is list
    assert type(stacked((torch.ones(2), torch.zeros(2))).rows()) is tuple
