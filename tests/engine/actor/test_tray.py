"""Trays: large replies come in memory of the caller, which nobody writes to while a part of it is held."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
import pytest

from byzflow.engine.actor.calls import Call
from byzflow.engine.actor.factory import resolve_backend
from byzflow.engine.actor.parcel import Parcel
from byzflow.engine.actor.tray import MOST, WORTH, Left, Tray, Trays, Waiter
from byzflow.exceptions import NodeLostError
from tests.engine.actor.subjects import Subject

LENGTH = WORTH // 4


def sealed(*values: float) -> Parcel:
    return Parcel([np.full(LENGTH, value) for value in values]).sealed()


def served(trays: Trays, waiter: Waiter, *values: float) -> tuple[Any, Tray | None]:
    """One call: what came, and the tray that was lent for it."""
    with trays.lent() as tray:
        reply: Parcel | Left = sealed(*values)
        if tray is not None:
            reply = waiter.serve(reply, tray.spot)
        return trays.opened(reply, tray).open(), tray


@pytest.mark.parametrize("sizes", [(1, 64, 65), (0, 3), (64,)], ids=str)
def test_frames_come_back_as_they_were_wherever_they_begin(sizes: Sequence[int]) -> None:
    frames = [bytes(range(size)) for size in sizes]
    tray = Tray(256)
    left = Waiter().serve(Parcel(frames=[b"head", *frames]), tray.spot)
    assert isinstance(left, Left)
    assert [frame.tobytes() for frame in tray.frames(left.sizes)] == frames


def test_the_first_large_reply_travels_and_later_ones_are_left_in_a_tray() -> None:
    trays, waiter = Trays(), Waiter()
    lent = [served(trays, waiter, 1.0, 2.0)[1] for _ in range(3)]
    assert lent[0] is None
    assert lent[1] is lent[2]
    assert lent[1] is not None


def test_a_tray_is_lent_again_only_when_no_part_of_what_came_is_held() -> None:
    trays, waiter = Trays(), Waiter()
    served(trays, waiter, 0.0)
    rows, first = served(trays, waiter, 1.0)
    part = rows[0][5:7]
    del rows
    other, second = served(trays, waiter, 2.0)
    assert second is not first
    assert part.tolist() == [1.0, 1.0]
    del part
    assert served(trays, waiter, 3.0)[1] is first
    assert set(other[0]) == {2.0}


def test_who_holds_everything_gets_what_comes_in_memory_of_its_own() -> None:
    trays, waiter = Trays(), Waiter()
    kept = [served(trays, waiter, float(value)) for value in range(2 * MOST)]
    assert sum(tray is not None for _, tray in kept) == MOST
    assert [set(rows[0]) for rows, _ in kept] == [{float(value)} for value in range(2 * MOST)]


def test_after_a_call_that_failed_the_host_may_still_write_so_its_tray_is_not_lent_again() -> None:
    trays, waiter = Trays(), Waiter()
    served(trays, waiter, 0.0)
    with pytest.raises(TimeoutError), trays.lent() as given_up:
        raise TimeoutError
    rows, tray = served(trays, waiter, 1.0)
    assert tray is not given_up
    waiter.serve(sealed(9.0), given_up.spot)  # the late reply
    assert set(rows[0]) == {1.0}


def test_a_reply_that_has_grown_travels_once_and_then_gets_a_larger_tray() -> None:
    trays, waiter = Trays(), Waiter()
    served(trays, waiter, 0.0)
    small = served(trays, waiter, 0.0)[1]
    rows, _ = served(trays, waiter, *range(9))
    assert [row[0] for row in rows] == list(range(9))
    rows, large = served(trays, waiter, *range(9))
    assert [row[0] for row in rows] == list(range(9))
    assert large.size > small.size


def test_little_travels_until_a_reply_was_large_and_then_where_there_is_a_tray_for_it() -> None:
    trays, waiter = Trays(), Waiter()
    assert trays.suffice(None)
    served(trays, waiter, 0.0)
    assert not trays.suffice(None)
    with trays.lent() as tray:
        assert trays.suffice(tray.spot)


def test_trays_do_not_suffice_for_what_is_larger_than_any(monkeypatch: pytest.MonkeyPatch) -> None:
    trays, waiter = Trays(), Waiter()
    served(trays, waiter, 0.0)
    monkeypatch.setattr("byzflow.engine.actor.tray.LARGEST", 2 * WORTH)
    served(trays, waiter, 0.0, 1.0)
    with trays.lent() as tray:
        assert not trays.suffice(tray.spot)


def test_a_host_that_cannot_reach_the_tray_sends_and_is_not_asked_again() -> None:
    trays, waiter = Trays(), Waiter()
    served(trays, waiter, 0.0)
    with trays.lent() as tray:
        elsewhere = waiter.serve(sealed(1.0), tray.spot._replace(token=bytes(16)))
        rows = trays.opened(elsewhere, tray).open()
    assert set(rows[0]) == {1.0}
    assert served(trays, waiter, 2.0)[1] is None


def test_a_host_keeps_few_bytes_mapped_whoever_they_are_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byzflow.engine.actor.tray.HELD", 5 << 19)
    waiter, trays = Waiter(), [Tray(1 << 20) for _ in range(5)]
    for _ in range(2):
        for tray in trays:
            left = waiter.serve(Parcel(frames=[b"head", b"one"]), tray.spot)
            assert isinstance(left, Left)
            assert tray.frames(left.sizes)[0].tobytes() == b"one"
            assert len(waiter._known) <= 2


@pytest.mark.processes
async def test_a_host_that_is_lost_leaves_no_tray_open(process_runtime: Any) -> None:
    backend = resolve_backend("process")
    await backend.construct(Subject)
    host, vector = backend.host, np.arange(float(LENGTH))
    kept = [await backend.call("echo", vector) for _ in range(3)]
    trays = [weakref.ref(tray) for tray in host._trays._spare]
    assert len(trays) == 2
    with host._trays.lent() as under_way:
        with pytest.raises(NodeLostError):
            await backend.call("die")
        assert under_way is None or under_way.size
    del under_way
    assert [tray() for tray in trays] == [None] * 2
    assert all(np.array_equal(one, vector) for one in kept)
    await backend.close()


@pytest.mark.processes
async def test_replies_of_another_process_come_by_tray_and_leave_nothing_open(process_runtime: Any) -> None:
    backend = resolve_backend("process")
    await backend.construct(Subject)
    vector = np.arange(float(LENGTH))
    calls = [Call(backend.object_id, "echo", (vector,))]
    kept = [(await backend.host.call_many(calls))[0].unwrap() for _ in range(3)]
    open_files = []
    for _ in range(15):
        for _ in range(3):
            assert np.array_equal((await backend.host.call_many(calls))[0].unwrap(), vector)
        given_up = asyncio.ensure_future(backend.host.call_many(calls))
        await asyncio.sleep(0)  # until it has begun
        given_up.cancel()
        assert np.array_equal((await backend.host.call_many(calls))[0].unwrap(), vector)
        gc.collect()
        open_files.append(psutil.Process().num_fds())
    assert open_files[-1] < open_files[4] + 10  # two for each call that was given up would be 20
    assert all(np.array_equal(one, vector) for one in kept)
    assert kept[1].ctypes.data != kept[2].ctypes.data
    assert any(tray.is_free for tray in backend.host._trays._spare)
    await backend.close()
