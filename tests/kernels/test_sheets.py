"""Rows that lie in a few matrices are the same sequence of vectors as the list of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from byzflow.kernels.intake import as_rows
from byzflow.kernels.sheets import Sheets, split


def in_sheets(matrices: list[Any]) -> tuple[Sheets, list[Any]]:
    """Return the rows of matrices in a drawn order, without the second, as sheets and as a list."""
    rows = [matrix[i] for matrix in matrices for i in range(len(matrix))]
    places = np.random.default_rng(0).permutation(len(rows))[1:]
    return Sheets(matrices, places), [rows[place] for place in places]


@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("shape", [(3,), (2, 5), ()])
def test_sheets_are_a_sequence(library: Any, shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(1).standard_normal
    sheets, rows = in_sheets([library(draw((k, *shape))) for k in (2, 1, 4)])
    assert len(sheets) == len(rows) == 6
    for got in (list(sheets), [sheets[i] for i in range(6)], [sheets[i - 6] for i in range(6)]):
        assert all((a == b).all() and a.shape == b.shape for a, b in zip(got, rows, strict=True))
    assert [float(v.sum()) for v in sheets[1:3]] == [float(v.sum()) for v in rows[1:3]]
    assert [float(v.sum()) for v in sheets.whole()] == [float(v.sum()) for v in rows]
    twice = sheets + sheets[:1]
    assert len(twice) == 7
    assert (twice[6] == rows[0]).all()
    with pytest.raises(IndexError):
        sheets[6]


@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sheets_are_read_where_they_lie(library: Any, dtype: Any) -> None:
    draw = np.random.default_rng(1).standard_normal
    sheets, rows = in_sheets([library(draw((k, 2, 3)).astype(dtype)) for k in (2, 1, 4)])
    got, want = as_rows(sheets), as_rows(rows)
    assert got.template == want.template
    assert (got.n, got.d, got.dtype, got.host) == (want.n, want.d, want.dtype, want.host)
    assert (got.read(got.span) == want.read(want.span)).all()
    assert got.vectors is sheets


@pytest.mark.parametrize(
    "matrix",
    [
        torch.ones(3, 4, dtype=torch.float16),
        torch.ones(4, 3).T,
        torch.ones(3, 4, requires_grad=True),
        torch.ones(3, 4, dtype=torch.int64),
        np.ones((4, 3)).T,
        np.ones((3, 4), dtype=">f4"),
        np.ones((3, 4), dtype=np.int32),
    ],
    ids=["half", "across", "graded", "int", "across-numpy", "swapped", "int-numpy"],
)
def test_what_cannot_be_read_in_place_is_taken_row_by_row(matrix: Any) -> None:
    got, want = as_rows(matrix), as_rows(list(matrix))
    assert not isinstance(got.vectors, Sheets)
    assert got.template == want.template
    assert (got.read(got.span) == want.read(want.span)).all()


@pytest.mark.parametrize("matrix", [np.zeros((0, 3)), torch.zeros(0, 3)])
def test_no_rows_are_an_error(matrix: Any) -> None:
    with pytest.raises(ValueError, match="At least one vector"):
        as_rows(matrix)


def test_rows_without_entries_are_rows() -> None:
    assert as_rows(torch.zeros(3, 0)).n == as_rows(np.zeros((3, 0))).n == 3


def test_split_rows_share_memory_and_know_no_autograd() -> None:
    matrix = torch.ones(2, 3, requires_grad=True)
    rows = split(matrix)
    rows[1][0] = 7.0
    assert not rows[0].requires_grad
    assert matrix[1, 0].item() == 7.0
