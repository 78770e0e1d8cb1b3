"""Rows that nodes are shown as numbers are the rows one by one, and what nodes get of them is their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from byzflow.engine.actor.columns import Columns
from byzflow.engine.actor.parcel import Parcel
from byzflow.engine.rounds.arena import Arena, RowRef
from byzflow.engine.rounds.forms import Digest, Signature, norm_of
from byzflow.engine.rounds.holding import Held, hold
from byzflow.engine.rounds.mirrors import references
from byzflow.engine.rounds.picks import Picked, Picks, Places, picked, placed, sheets_of
from byzflow.engine.rounds.resident import Resident
from byzflow.engine.rounds.showing import COPIED, copied, resolved, rewritten

FORMS = [
    Signature(library, dtype, shape)
    for library, dtypes in (("torch", ("float32", "float64", "bfloat16")), ("numpy", ("float32", "float16")))
    for dtype in dtypes
    for shape in ((3,), (2, 2), ())
]


def filled(form: Signature, rows: int = 5) -> tuple[Arena, list[Any]]:
    arena = Arena(rows, form)
    numbers = np.arange(rows * form.length, dtype=np.float64).reshape(rows, *form.shape)
    if form.library == "torch":
        vectors = list(torch.from_numpy(numbers).to(getattr(torch, form.dtype)))
    else:
        vectors = list(numbers.astype(form.dtype)[:, ...]) if form.shape else list(numbers.astype(form.dtype))
        vectors = [np.asarray(vector) for vector in vectors]
    return arena, vectors


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_vector_is_left_in_a_row_with_the_norm_it_has_by_itself(form: Signature) -> None:
    arena, vectors = filled(form)
    for row, vector in enumerate(vectors):
        assert hold(vector, RowRef(arena.site, row)) == Digest(form, norm_of(vector), RowRef(arena.site, row))
    for row, vector in enumerate(vectors):
        copy = RowRef(arena.site, row).copy()
        assert (copy == vector).all()
        assert copy.shape == vector.shape
        assert type(copy) is type(vector)


@pytest.mark.parametrize("length", [1, 7, 1000, 4097])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_norm_has_the_bits_of_one_that_is_measured_alone(length: int, dtype: str) -> None:
    vector = np.random.default_rng(length).normal(size=length).astype(dtype)
    arena = Arena(1, Signature("numpy", dtype, (length,)))
    assert hold(vector, RowRef(arena.site, 0)).norm == norm_of(vector)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_a_vector_that_is_not_finite_or_has_huge_entries_is_measured_with_care(bad: float) -> None:
    arena = Arena(1, Signature("torch", "float32", (3,)))
    vector = torch.tensor([bad, bad, 1.0])
    found = hold(vector, RowRef(arena.site, 0)).norm
    assert found == norm_of(vector)
    assert np.isfinite(found) == np.isfinite(bad)


def test_a_vector_that_is_not_laid_out_in_order_is_left_all_the_same() -> None:
    arena = Arena(1, Signature("torch", "float32", (2, 3)))
    vector = torch.arange(6.0).reshape(3, 2).T
    assert hold(vector, RowRef(arena.site, 0)).norm == norm_of(vector)
    assert torch.equal(RowRef(arena.site, 0).open(), vector)


def test_picks_are_the_rows_they_stand_for_on_either_side_of_a_wire() -> None:
    arena, _ = filled(FORMS[0])
    rows = [RowRef(arena.site, row) for row in range(5)]
    shown = [(rows[2], [rows[0], rows[4]]), (rows[1], [])]
    picks = picked(shown)
    assert isinstance(picks, Picks)
    for some in (picks, Parcel(picks).sealed().open(), picks[:], picks.part([0, 1])):
        assert [tuple(one) for one in some] == shown
        assert [tuple(some[i]) for i in range(2)] == shown
    assert references([picks[0]]) == [rows[2], rows[0], rows[4]]


@pytest.mark.parametrize("other", [torch.ones(3), "text", None])
def test_what_is_no_row_of_the_same_arena_is_shown_as_it_is(other: Any) -> None:
    arena, elsewhere = Arena(2, FORMS[0]), Arena(2, FORMS[0])
    row = RowRef(arena.site, 0)
    for shown in ([(row, [other])], [(other, [row])], [(row, [RowRef(elsewhere.site, 0)])], []):
        assert picked(shown) is shown


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_node_may_do_with_its_picks_what_it_likes(form: Signature) -> None:
    class Vandal:
        def mix(self, own: Any, others: list[Any]) -> None:
            self.seen = [own.sum().item(), *(float(other.sum()) for other in others)]
            for vector in (own, *others):
                vector[...] = -1.0
            others.clear()

    arena, vectors = filled(form)
    for row, vector in enumerate(vectors):
        RowRef(arena.site, row).take(vector)
    resident = Resident(Vandal())
    resident.resident_call(0, "mix", args=Picked(arena.site, (3, 1, 1)))
    assert resident.seen == [float(vectors[i].sum()) for i in (3, 1, 1)]
    for row, vector in enumerate(vectors):
        assert (RowRef(arena.site, row).open() == vector).all()


@pytest.mark.parametrize("length", [3, COPIED // 4 + 1])
def test_a_list_of_rows_is_shown_as_one_of_vectors_of_the_nodes_own(length: int) -> None:
    class Vandal:
        def forge(self, heard: list[Any], like: Any) -> None:
            self.seen = [type(heard), *(float(vector[0]) for vector in heard)]
            for vector in (*heard, like):
                vector[:] = -1.0

    arena = Arena(3, Signature("torch", "float32", (length,)))
    rows = [RowRef(arena.site, row) for row in range(3)]
    for row in rows:
        row.take(torch.full((length,), float(row.row)))
    heard = placed([rows[2], rows[0], rows[2]])
    assert isinstance(heard, Places)
    assert references({"heard": heard}) == [rows[2], rows[0], rows[2]]
    assert rewritten(lambda row: rows[1], {"heard": heard}) == {"heard": [rows[1]] * 3}
    resident = Resident(Vandal())
    resident.resident_call(0, "forge", kwargs={"heard": heard, "like": rows[1]})
    assert resident.seen == [list, 2.0, 0.0, 2.0]
    assert [float(vector[0]) for vector in resolved(heard)] == [2.0, 0.0, 2.0]
    assert [float(row.open()[-1]) for row in rows] == [0.0, 1.0, 2.0]


def test_large_picks_are_shown_by_panes_and_read_where_they_lie() -> None:
    form = Signature("torch", "float32", (COPIED // 4 + 1,))
    arena = Arena(3, form)
    one = Picked(arena.site, (2, 0))
    assert copied(one) is None
    own, others = resolved(one)
    assert own.data_ptr() == RowRef(arena.site, 2).open().data_ptr()
    assert len(others) == 1


def test_digests_of_one_arena_travel_in_columns() -> None:
    arena, _ = filled(FORMS[0])
    digests = [Digest(FORMS[0], float(row), RowRef(arena.site, row)) for row in range(3)]
    columns = Columns([None, *digests, None], {})
    assert isinstance(columns.others, Held)
    arrived = Parcel(columns).sealed().open()
    assert [out.value for out in arrived] == [None, *digests, None]
    assert arrived[2].value.row.site is arrived[1].value.row.site


@pytest.mark.parametrize("odd", [Digest(None, kind="str"), Digest(FORMS[0], 1.0), 3])
def test_one_that_has_no_row_is_beside_the_others(odd: Any) -> None:
    arena, _ = filled(FORMS[0])
    values = [Digest(FORMS[0], 2.0, RowRef(arena.site, 1)), odd, Digest(FORMS[0], 3.0, RowRef(arena.site, 0))]
    arrived = Parcel(Columns(values, {})).sealed().open()
    assert [out.value for out in arrived] == values


def test_rows_of_one_arena_are_read_as_one_sheet() -> None:
    arena, vectors = filled(FORMS[0])
    for row, vector in enumerate(vectors):
        RowRef(arena.site, row).take(vector)
    rows = list(Places(arena.site, [4, 0, 2]))
    elsewhere = Arena(1, FORMS[0])
    assert torch.equal(
        torch.stack(list(sheets_of(rows)))[:, :3], torch.stack([vectors[i] for i in (4, 0, 2)])
    )
    assert len(sheets_of([*rows, RowRef(elsewhere.site, 0)])) == 4
    assert type(sheets_of([])) is list
