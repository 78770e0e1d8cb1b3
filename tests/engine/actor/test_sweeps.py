"""Calls in columns are the calls one by one, on either side of a wire, however they are put together."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byzflow.engine.actor.calls import Call
from byzflow.engine.actor.parcel import Parcel
from byzflow.engine.actor.sweeps import Chain, Share, Sweep, asks_of, joined, kinds_of, names_of, shares

NAMES = [f"node-{i}" for i in range(5)]
STEP = Sweep(NAMES, "step", (1,))
MIX = Sweep(NAMES, "mix", (1,), {"row": [7, 5, 6, 9, 8]}, {"most": 3})
TELL = Sweep(NAMES, "tell")


def test_a_sweep_is_the_calls_it_stands_for() -> None:
    calls = [Call(name, "step", (1,)) for name in ("a", "b", "c")]
    sweep = Parcel(Sweep(["a", "b", "c"], "step", (1,))).sealed().open()
    assert list(sweep) == calls
    assert list(sweep[1:]) == calls[1:]


def test_a_sweep_gives_each_object_its_own_value() -> None:
    calls = [Call(name, "step", (1,), {"row": row}) for name, row in (("a", 7), ("b", 5), ("c", 6))]
    sweep = Parcel(Sweep(["a", "b", "c"], "step", (1,), {"row": [7, 5, 6]})).sealed().open()
    assert list(sweep) == calls
    assert list(sweep[1:]) == calls[1:]
    made = [ask(SimpleNamespace(step=lambda x, row: (x, row))) for ask in asks_of(sweep)]
    assert made == [(1, 7), (1, 5), (1, 6)]


def test_what_all_calls_of_a_sweep_are_given_by_name_may_stand_beside_what_differs() -> None:
    assert MIX[1] == Call("node-1", "mix", (1,), {"most": 3, "row": 5})
    assert list(MIX.part([3, 0])) == [MIX[3], MIX[0]]
    subject = SimpleNamespace(mix=lambda x, **named: (x, named))
    assert [ask(subject) for ask in asks_of(MIX)][1] == (1, {"most": 3, "row": 5})


def test_a_share_is_the_calls_of_one_object() -> None:
    share = shares([STEP, MIX, TELL])[2]
    assert list(share) == [STEP[2], MIX[2], TELL[2]]
    assert share[-1:] == [TELL[2]]
    assert len(share) == 3
    assert shares([Sweep([], "step")]) == []


def told(name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return name, args, kwargs


def known(calls: Any) -> list[Call]:
    """Return calls as they come out at the other end, having looked at them in every way."""
    arrived = Parcel(calls).sealed().open()
    every = [arrived[i] for i in range(len(arrived))]
    assert list(names_of(arrived)) == [call.object_id for call in every]
    assert [(name, call.method) for name, call in kinds_of(arrived)] == [
        (call.object_id, call.method) for call in every
    ]
    subject = SimpleNamespace(**{call.method: partial(told, call.method) for call in every})
    made = [ask(subject) for ask in asks_of(arrived)]
    assert made == [(call.method, call.args, dict(call.kwargs)) for call in every]
    return every


plans = st.lists(
    st.sampled_from([(STEP,), (MIX, TELL), (STEP, MIX, TELL)]), min_size=1, max_size=3, unique=True
)


@given(st.data(), plans)
def test_joined_queues_are_found_where_they_are_said_to_be(data: st.DataObject, plans: Any) -> None:
    queues: list[Any] = [Share(sweeps, at) for sweeps in plans for at in range(len(NAMES))]
    queues += [[Call("node-9", "odd", (i,)), Call("node-9", "step", (1,))] for i in range(2)] + [[]]
    chosen = data.draw(st.lists(st.sampled_from(range(len(queues))), unique=True, min_size=1))
    some = [queues[i] for i in chosen]
    calls, places = joined(some)
    every = known(calls)
    assert [[every[at] for at in place] for place in places] == [list(queue) for queue in some]
    assert sorted(at for place in places for at in place) == list(range(len(every)))


def test_what_many_have_a_share_of_stays_in_columns() -> None:
    calls, _ = joined(shares([STEP, MIX]))
    assert isinstance(calls, Chain)
    assert [type(part) for part in calls.parts] == [Sweep, Sweep]
    assert type(joined(shares([STEP]))[0]) is Sweep


def test_a_chain_is_looked_at_from_either_end() -> None:
    chain = Chain([STEP, [], TELL])
    assert chain[-1] == TELL[4]
    assert chain[3:7] == [STEP[3], STEP[4], TELL[0], TELL[1]]
    with pytest.raises(IndexError):
        chain[10]


def test_a_column_that_knows_its_parts_is_asked_for_them() -> None:
    class Column(list[int]):
        def part(self, positions: Any) -> Any:
            return np.array(self)[list(positions)]

    part = Sweep(NAMES, "step", each={"row": Column(range(5))}).part([4, 2])
    assert part.each["row"].tolist() == [4, 2]
