"""Private mappings of rows: what nodes write or keep is theirs, and nobody else's, whoever comes next."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from byzflow.engine.rounds import panes
from byzflow.engine.rounds.arena import Arena, RowRef
from byzflow.engine.rounds.forms import Signature
from byzflow.engine.rounds.panes import Pane, forget
from byzflow.engine.rounds.showing import Showing

D = 1500  # a page and a half of float32, so that rows share pages


@pytest.fixture(params=["numpy", "torch"])
def arena(request):
    made = Arena(4, Signature(request.param, "float32", (D,)))
    for row in range(4):
        made.write(row, torch.full((D,), float(row)))
    yield made
    forget([made.site])


def test_a_pane_that_nobody_has_written_through_serves_the_next_node(arena):
    pane = Pane.lent(arena.site)
    assert float(pane.open(1).sum() + pane.open(3).sum()) == 4 * D
    pane.give_back()
    assert Pane.lent(arena.site) is pane
    arena.write(1, torch.full((D,), 5.0))
    assert float(pane.open(1)[0]) == 5.0


@pytest.mark.parametrize("entry", [0, D // 2, D - 1])
def test_a_pane_that_somebody_has_written_through_does_not(arena, entry):
    pane = Pane.lent(arena.site)
    pane.open(1)[entry] = 7.0
    pane.give_back()
    after = Pane.lent(arena.site)
    assert after is not pane
    assert np.asarray(after.open(1)).tolist() == [1.0] * D


@pytest.mark.parametrize("row", range(4))
def test_what_is_kept_stays_as_it_was_to_its_last_entry(arena, row):
    pane = Pane.lent(arena.site)
    kept = pane.open(row)[1:]
    pane.give_back()
    arena.write(row, torch.full((D,), 9.0))
    assert np.asarray(kept).tolist() == [float(row)] * (D - 1)
    assert Pane.lent(arena.site) is not pane


def test_two_nodes_at_once_have_panes_of_their_own(arena):
    one, other = Pane.lent(arena.site), Pane.lent(arena.site)
    one.open(0)[:] = 7.0
    assert float(other.open(0).sum()) == 0.0


def test_none_serves_twice_where_the_system_does_not_say_what_was_written(arena, monkeypatch, tmp_path):
    monkeypatch.setattr(panes, "PAGEMAP", tmp_path / "absent")
    pane = Pane.lent(arena.site)
    assert float(pane.open(1)[0]) == 1.0
    pane.give_back()
    assert Pane.lent(arena.site) is not pane


def test_panes_of_very_large_arenas_and_of_those_that_are_gone_do_not_wait(arena, monkeypatch):
    monkeypatch.setattr(panes, "LARGE", 4 * 4 * D - 1)
    Pane.lent(arena.site).give_back()
    assert not Pane._idle
    monkeypatch.undo()
    Pane.lent(arena.site).give_back()
    assert len(Pane._idle) == 1
    forget([arena.site])
    assert not Pane._idle


def test_a_row_that_is_shown_twice_is_two_vectors(monkeypatch):
    monkeypatch.setattr("byzflow.engine.rounds.showing.COPIED", 0)
    arena = Arena(1, Signature("numpy", "float32", (D,)))
    row = RowRef(arena.site, 0)
    showing = Showing()
    (one, other), third = showing.resolve(((row, row), row))
    one[:] = 1.0
    assert other.sum() == third.sum() == 0.0
    showing.close()
    forget([arena.site])


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["open", "write", "keep", "back", "post"]),
        st.integers(0, 2),
        st.integers(0, D - 1),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(moves=MOVES)
def test_what_nodes_see_is_what_copies_would_show(moves):
    arena = Arena(3, Signature("numpy", "float32", (D,)))
    truth = np.zeros((3, D), np.float32)
    pane, seen, kept, number = Pane.lent(arena.site), {}, [], 0.0
    for move, row, entry in moves:
        number += 1.0
        if move == "open" and row not in pane:
            seen[row] = pane.open(row), truth[row].copy()
        elif move == "write" and row in seen:
            for vector in seen[row]:
                vector[entry] = number
        elif move == "keep" and row in seen:
            kept.append(seen[row])
        elif move == "back":
            seen.clear()
            pane.give_back()
            pane = Pane.lent(arena.site)
        elif move == "post" and not seen:  # nobody writes rows that a node is being shown
            truth[row] = number
            arena.write(row, truth[row])
        for vector, copy in [*seen.values(), *kept]:
            assert (vector == copy).all()
    forget([arena.site])
