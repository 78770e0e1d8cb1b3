"""Shared vectors: what is written is read, by others too, and nobody can write into what is not theirs."""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from byzflow.engine.actor.shared import Spot, opened
from byzflow.engine.rounds.arena import Arena, RowRef
from byzflow.engine.rounds.forms import Signature
from byzflow.engine.rounds.holding import hold
from byzflow.engine.rounds.panes import forget
from byzflow.engine.rounds.resident import Resident
from byzflow.engine.rounds.showing import Showing, resolved
from byzflow.engine.rounds.sites import reachable

FORMS = [
    Signature("torch", "float32", (2, 3)),
    Signature("torch", "bfloat16", (2, 3)),
    Signature("numpy", "float64", (2, 3)),
]


def vector(form: Signature, value: float) -> Any:
    if form.library == "torch":
        return torch.full(form.shape, value, dtype=getattr(torch, form.dtype))
    return np.full(form.shape, value, dtype=form.dtype)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.dtype)
def test_a_row_comes_back_in_its_form(form: Signature) -> None:
    arena = Arena(3, form)
    arena.write(2, vector(form, 1.5))
    back = RowRef(arena.site, 2).open()
    assert type(back) is type(vector(form, 0.0))
    assert back.dtype == vector(form, 0.0).dtype
    assert back.tolist() == [[1.5] * 3] * 2


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.dtype)
def test_columns_are_written_from_anywhere(form: Signature) -> None:
    arena = Arena(2, form)
    RowRef(arena.site, 1).write(0, 4, np.arange(4.0))
    RowRef(arena.site, 1).write(4, 6, np.arange(4.0, 6.0))
    assert RowRef(arena.site, 1).open().tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


class Hoarder:
    """Keeps what it is shown, or a part of it."""

    def take(self, vectors: Any) -> None:
        self.kept = [vectors[0][:1], vectors[1].clone()]


def test_what_a_node_keeps_stays_as_it_was() -> None:
    arena, node = Arena(2, FORMS[0]), Hoarder()
    for row in range(2):
        arena.write(row, vector(FORMS[0], float(row)))
    Resident(node).resident_call(0, "take", (tuple(RowRef(arena.site, row) for row in range(2)),))
    for row in range(2):
        arena.write(row, vector(FORMS[0], 9.0))
    assert [float(part.sum()) for part in node.kept] == [0.0, 6.0]


def test_writing_to_what_was_opened_reaches_nobody() -> None:
    arena = Arena(1, FORMS[0])
    arena.write(0, vector(FORMS[0], 1.0))
    RowRef(arena.site, 0).open().fill_(9.0)
    forget([arena.site])
    assert RowRef(arena.site, 0).open().tolist() == [[1.0] * 3] * 2


def test_a_node_gets_the_vectors_themselves_and_cannot_change_them() -> None:
    class Vandal:
        def spoil(self, vectors: Any, extra: int) -> float:
            total = float(vectors[0].sum()) + extra
            vectors[0].fill_(-1.0)
            return total

    arena = Arena(1, FORMS[0])
    arena.write(0, vector(FORMS[0], 1.0))
    shown = (RowRef(arena.site, 0),)
    assert Resident(Vandal()).resident_call(0, "spoil", (shown, 1)) == 7.0
    assert shown[0].open().sum() == 6.0


def test_only_what_has_the_arenas_form_is_kept() -> None:
    arena = Arena(2, Signature("torch", "float32", (3,)))
    digest = hold(torch.tensor([3.0, 4.0, 0.0]), RowRef(arena.site, 1))
    assert digest.norm == 5.0
    assert digest.row == RowRef(arena.site, 1)
    assert digest.row.open().tolist() == [3.0, 4.0, 0.0]
    assert hold(torch.zeros(4), RowRef(arena.site, 1)).row is None
    assert hold("text", RowRef(arena.site, 1)).kind == "str"
    assert arena.site.signature.shape == (3,)


def test_a_foreign_or_closed_arena_is_not_reachable() -> None:
    arena = Arena(1, FORMS[0])
    assert reachable([arena.site])
    assert not reachable([replace(arena.site, spot=arena.site.spot._replace(token=bytes(16)))])
    assert not reachable([replace(arena.site, spot=arena.site.spot._replace(descriptor=10_000))])
    assert not reachable([replace(arena.site, spot=arena.site.spot._replace(pid=2**22 + 1))])


def test_what_is_no_shared_memory_is_not_even_opened() -> None:
    end, other = os.pipe()
    os.close(other)  # to open the pipe would take for ever now
    try:
        with pytest.raises(ValueError, match="no shared memory"):
            opened(Spot(os.getpid(), end, bytes(16)), mmap.ACCESS_READ)
    finally:
        os.close(end)


def test_arenas_leave_no_descriptor_and_no_mapping_behind() -> None:
    def count() -> tuple[int, int]:
        gc.collect()
        maps = Path("/proc/self/maps").read_text().count("memfd:byzflow-arena")
        return sum(
            "memfd:byzflow-arena" in target for target in map(_target, Path("/proc/self/fd").iterdir())
        ), maps

    before = count()
    for _ in range(20):
        arena = Arena(2, FORMS[0])
        RowRef(arena.site, 0).open()
        forget([arena.site])
        del arena
    after = count()
    assert after[0] <= before[0]
    assert after[1] <= before[1]


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:  # the listing's own
        return ""


@pytest.mark.parametrize("d", [3, 1 << 19])
def test_vectors_can_be_shown_after_their_owner_was_killed(d: int) -> None:
    script = f"""
import pickle, sys
import numpy as np
from byzflow.engine.rounds.arena import Arena
from byzflow.engine.rounds.forms import Signature
arena = Arena(1, Signature("numpy", "float32", ({d},)))
arena.write(0, np.ones({d}, dtype=np.float32))
print(pickle.dumps(arena.site).hex(), flush=True)
sys.stdin.read()
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    site = pickle.loads(bytes.fromhex(owner.stdout.readline()))
    assert reachable([site])
    owner.kill()
    owner.communicate()
    with closing(Showing()) as showing:
        np.testing.assert_array_equal(showing.resolve((RowRef(site, 0),))[0], 1.0)
    forget([site])


def test_plain_values_are_left_alone() -> None:
    values = ([1, 2], {"a": 1}, "text", None)
    assert resolved(values) == values


@pytest.mark.parametrize("d", [1 << 18, 1 << 19])
def test_a_kept_vector_takes_the_memory_of_that_vector_only(d: int) -> None:
    """The smaller one is copied when it is shown, the pages of the larger one when it is written to."""
    arena = Arena(32, Signature("torch", "float32", (d,)))
    for row in range(32):
        arena.write(row, torch.full((d,), float(row)))
    before = _resident()
    showing = Showing()
    kept = showing.resolve((RowRef(arena.site, 7),))[0]
    showing.close()
    assert _resident() - before < 16 * d  # bytes; the vector has 4 d, the arena 128 d
    arena.write(7, torch.zeros(d))
    assert bool((kept == 7.0).all())


def _resident() -> int:
    """Return the memory of this process that is its own [bytes]."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(fields["RssAnon"].split()[0])


def test_each_occurrence_of_a_reference_is_a_copy_of_its_own() -> None:
    class Vandal:
        def spoil(self, vectors: Any, like: Any = None) -> float:
            vectors[0].fill_(9.0)
            return float(like.sum())

    arena = Arena(1, FORMS[0])
    arena.write(0, vector(FORMS[0], 1.0))
    ref = RowRef(arena.site, 0)
    told = Resident(Vandal()).resident_call(0, "spoil", kwargs={"vectors": [ref, ref], "like": ref})
    assert told == 6.0
    assert ref.open().sum() == 6.0


@pytest.mark.parametrize("vector", [np.ones(2), np.ones(3), np.ones(4, dtype=np.float32)], ids=str)
def test_a_vector_of_another_form_is_measured_and_not_left_in_a_row(vector: np.ndarray) -> None:
    arena = Arena(1, Signature("numpy", "float64", (4,)))
    digest = hold(vector, RowRef(arena.site, 0))
    assert (digest.row, digest.norm) == (None, pytest.approx(len(vector) ** 0.5))
    assert not RowRef(arena.site, 0).open().any()
