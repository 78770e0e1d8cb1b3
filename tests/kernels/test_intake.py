"""Which inputs are taken, and what the answer looks like."""

from __future__ import annotations

import array_api_strict as xp
import numpy as np
import pytest
import torch

from byzflow.kernels.blocks import Span, block_width
from byzflow.kernels.intake import as_rows

BLOCK = block_width(3, 3000)


@pytest.mark.parametrize("empty", [[], (), np.empty((0, 3)), torch.empty(0, 3)])
def test_no_vector_is_an_error(empty):
    with pytest.raises(ValueError, match="At least one vector"):
        as_rows(empty)


@pytest.mark.parametrize("lib", [np.ones, torch.ones])
def test_shapes_that_differ_are_an_error_that_names_the_vector(lib):
    with pytest.raises(ValueError, match=r"vector 1 has shape \(4,\)"):
        as_rows([lib(3), lib(4)])


@pytest.mark.parametrize("bad", ["abc", 3, None, {"a": 1}])
def test_what_is_no_sequence_is_an_error(bad):
    with pytest.raises(TypeError):
        as_rows(bad)


@pytest.mark.parametrize("stack", [np.ones((3, 2, 2)), torch.ones(3, 2, 2), xp.ones((3, 2, 2))])
def test_a_stacked_array_of_any_library_holds_one_vector_for_each_row(stack):
    rows = as_rows(stack)
    assert (rows.n, rows.d, tuple(rows.template.shape)) == (3, 4, (2, 2))


def test_one_flat_array_is_no_stack_of_vectors():
    with pytest.raises(ValueError, match="shape"):
        as_rows(np.ones(5))


NOT_REAL = ([np.ones(3, complex)], [torch.ones(3, dtype=torch.complex64)], [np.array(["a", "b", "c"])])


@pytest.mark.parametrize("first", [[], [np.ones(3)] * 2, [torch.ones(3)] * 2], ids=["none", "numpy", "torch"])
@pytest.mark.parametrize("vectors", NOT_REAL, ids=["numpy", "torch", "strings"])
def test_vectors_that_are_not_real_are_refused_wherever_they_stand(first, vectors):
    with pytest.raises(TypeError, match="real"):
        as_rows([*first, *vectors])


@pytest.mark.parametrize("first", [np.ones(3), torch.ones(3)], ids=["numpy", "torch"])
@pytest.mark.parametrize("bad", [None, "x", {"a": 1}, [1.0, "a", 2.0]], ids=repr)
def test_what_is_no_array_is_called_by_its_kind_wherever_it_stands(first, bad):
    with pytest.raises(TypeError, match=f"array of real numbers; got {type(bad).__name__}"):
        as_rows([first, first, bad])


def test_nested_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="lists of one length at each level"):
        as_rows([[[1.0, 2.0], [3.0]]])


@pytest.mark.parametrize(
    "later",
    [torch.ones(3, requires_grad=True), torch.ones(3, dtype=torch.bfloat16)],
    ids=["grad", "bfloat16"],
)
def test_any_dense_tensor_may_follow_a_numpy_vector(later):
    rows = as_rows([np.zeros(3), later])
    assert rows.read(Span(0, 3)).tolist() == [[0.0] * 3, [1.0] * 3]


@pytest.mark.parametrize("dense", [[], [torch.ones(3)], [np.ones(3)]])
def test_sparse_vectors_are_refused(dense):
    with pytest.raises(TypeError, match=r"must be dense; got torch\.sparse_coo"):
        as_rows([*dense, torch.ones(3).to_sparse(), torch.ones(3).to_sparse()])


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=lambda d: str(d)[6:]
)
def test_blocks_hold_the_rows_and_answers_have_their_dtype(dtype):
    X = torch.randn(3, 2 * BLOCK + 5).to(dtype)
    rows = as_rows(list(X.reshape(3, -1, 1)))
    block = rows.read(Span(BLOCK, 2 * BLOCK))
    np.testing.assert_array_equal(block, X[:, BLOCK : 2 * BLOCK].to(torch.float64).numpy())
    answer = rows.template.restore(np.ones(rows.d, rows.dtype))
    assert answer.dtype == dtype
    assert answer.shape == X[0].reshape(-1, 1).shape


def test_rows_that_are_no_contiguous_memory_are_read_right():
    X = torch.randn(40, 6)
    rows = as_rows([X[:, i] for i in range(6)])
    np.testing.assert_array_equal(rows.read(Span(0, 40)), X.T.numpy())


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("d", [3, 1 << 15])
def test_few_rows_that_are_no_contiguous_memory_are_read_right(n, d):
    X = torch.randn(d, 2 * n)
    rows = as_rows([X[:, 2 * i + 1] for i in range(n)])
    np.testing.assert_array_equal(rows.read(Span(0, d)), X[:, 1::2].T.numpy())


def test_a_vector_that_needs_grad_is_detached():
    rows = as_rows([torch.ones(3, requires_grad=True)])
    assert not rows.template.restore(np.ones(3, np.float32)).requires_grad


def test_later_vectors_are_cast_to_the_first():
    rows = as_rows([torch.ones(3), np.ones(3), torch.ones(3, dtype=torch.float64)])
    assert rows.dtype == np.float32
    assert as_rows([np.ones(2, np.float32), torch.ones(2)]).read(Span(0, 2)).sum() == 4


def test_lists_of_numbers_are_float64_vectors():
    assert as_rows([[1, 2], [3, 4]]).template.dtype == np.float64


def test_a_shard_knows_where_it_lies():
    rows = as_rows([np.arange(10.0)[4:]]).at(4, 10)
    assert rows.span == Span(4, 10)
    assert rows.read(Span(6, 8)).tolist() == [[6.0, 7.0]]


def test_blocks_are_wide_enough_whatever_was_read_before():
    whole = 10**6
    edge = next(n for n in range(20, 100) if block_width(n, whole) < block_width(n - 1, whole))
    d = block_width(edge - 1, whole)
    as_rows(list(np.ones((edge, d)))).at(0, whole).read(Span(0, block_width(edge, whole)))
    rows = as_rows(list(np.ones((edge - 1, d)))).at(0, whole)
    assert rows.read(Span(0, d), spare=1).shape == (edge, d)


@pytest.mark.parametrize("shape", [(), (3,), (3, 2), (0,), (2, 0)])
def test_small_answers_are_no_views_of_one_tensor(shape):
    rows = as_rows([torch.full(shape, float(i)) for i in range(4)])
    answers = rows.template.restore_rows(rows.read(rows.span).copy())
    assert [tuple(answer.shape) for answer in answers] == [shape] * 4
    answers[1].add_(10.0)
    assert [answer._version for answer in answers[2:]] == [0, 0]
    for i in (0, 2, 3):
        assert torch.equal(answers[i], torch.full(shape, float(i)))


@pytest.mark.parametrize("shape", [(), (6,), (2, 3), (1, 6), (3, 1, 2)])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("make", [np.ones, torch.ones, xp.ones], ids=["numpy", "torch", "strict"])
def test_vectors_of_any_rank_are_flat_rows_also_one_alone(make, n, shape):
    rows = as_rows([make(shape)] * n)
    assert [tuple(vector.shape) for vector in rows.vectors] == [(rows.d,)] * n
