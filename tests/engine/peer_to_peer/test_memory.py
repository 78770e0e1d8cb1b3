"""When the states of peers are kept."""

from __future__ import annotations

from types import SimpleNamespace

import dask
import numpy as np
import pytest

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.peer_to_peer.memory import PeerMemory, _Past
from byzflow.engine.rounds.calls import Roster
from byzflow.engine.rounds.rota import HEAVY
from byzflow.exceptions import DeadlineError, NodeLostError


class Away:
    """Peers in another process, of which only their states are asked."""

    def __init__(self, count=1, nbytes=5):
        self.roster, self.gone, self.saved, self.absent = Roster([]), set(), 0, set()
        self.count, self.n_honest, self.state = count, count, np.zeros(nbytes, np.uint8)

    def __len__(self):
        return self.count

    def is_here(self, index):
        return False

    def read(self, index, method):
        return Call(str(index), method)

    async def call(self, queues, deadline):
        self.saved += len(queues)
        return {index: [Outcome(self.state)] for index in queues}


class Replaying(Away):
    """Peers that raise again what they raised, or hang."""

    def __init__(self, errors):
        super().__init__(len(errors))
        self.errors, self.behind = errors, {}
        self.roster.seat = lambda index: SimpleNamespace(object_id=str(index))

    async def call(self, queues, deadline):
        return {i: [Outcome(error=self.errors[i])] for i in queues}

    def settled(self, index):
        self.behind.pop(index, None)


async def test_a_peer_that_raises_again_what_it_raised_has_caught_up_but_not_one_that_hangs():
    peers = Replaying(
        [TimeoutError("no data in time"), DeadlineError("it is running"), NodeLostError("gone")]
    )
    memory = PeerMemory(peers, 25)
    memory._pasts = {i: _Past(0, b"state", [[Call(str(i), "resident_call")]]) for i in range(3)}
    assert set(await memory._catch_up([0, 1, 2], None)) == {2}
    assert set(peers.behind) == {1}


async def test_states_are_kept_sooner_when_the_vectors_since_take_too_much_memory():
    peers = Away()
    with dask.config.set({"byzflow.round.replay-memory": "100 B"}):
        memory = PeerMemory(peers, every=25)
    saved = []
    for number in range(5):
        await memory.keep(number, None)
        saved.append(peers.saved)
        vector = np.zeros(8)  # 64 bytes
        memory.done([(0, [Call("0", "step", (vector,))])], [vector])
    assert saved == [1, 1, 2, 2, 3]
    assert memory.oldest(5) == 4


async def test_heavy_states_are_kept_in_turns_and_the_oldest_sooner_for_the_sake_of_memory():
    peers = Away(count=4, nbytes=HEAVY)
    with dask.config.set({"byzflow.round.replay-memory": "200 B"}):
        memory = PeerMemory(peers, every=8)
    saved, oldest = [], []
    for number in range(9):
        before = peers.saved
        await memory.keep(number, None)
        await memory.keep(number, None)  # as after a cancelled round
        saved.append(peers.saved - before)
        oldest.append(memory.oldest(number))
        vector = np.zeros(8)  # 64 bytes
        memory.done([(0, [Call("0", "step", (vector,))])], [vector])
    assert saved == [4, 0, 1, 0, 3, 0, 1, 0, 3]
    assert oldest == [0, 0, 0, 0, 2, 2, 4, 4, 6]


@pytest.mark.parametrize(("size", "rounds"), [(1, 8), (64, 2)], ids=["few bytes", "too many"])
async def test_what_brings_a_peer_back_is_kept_while_it_may_come(size, rounds):
    peers = Away(count=3)
    peers.gone = {}
    with dask.config.set({"byzflow.round.replay-memory": "1 kB", "byzflow.round.backlog": 3}):
        memory = PeerMemory(peers, every=5)
    await memory.keep(0, None)
    peers.gone, memory.returns.stranded = {1: None, 2: None}, {1}
    peers.absent = set(peers.gone)
    known = []
    for number in range(1, 11):
        await memory.keep(number, None)
        vector = np.zeros(size)
        memory.done([(0, [Call("0", "step", (vector,))])], [vector])
        known.append([i for i in range(3) if memory.knows(i)])
    assert known == [[0, 1]] * rounds + [[0]] * (10 - rounds)
    assert memory.returns.stranded == set()


async def test_a_peer_that_gives_no_state_is_named(caplog):
    await PeerMemory(Replaying([TypeError("cannot pickle")]), every=5).keep(0, None)
    assert (
        "honest-0 will be lost with the worker: no state can be kept (TypeError: cannot pickle)"
        in caplog.text
    )


async def test_a_peer_that_gives_no_state_is_replayed_while_what_it_heard_is_not_too_much(caplog):
    peers = Replaying([TypeError("cannot pickle")])
    peers.roster.untouched = set
    with dask.config.set({"byzflow.round.replay-memory": "10 kiB", "byzflow.round.backlog": 1}):
        memory = PeerMemory(peers, every=3)
    memory.begin(0)
    known = []
    for number in range(15):
        await memory.keep(number, None)
        known.append(memory.knows(0))
        if known[-1]:
            assert len(memory._replay(0)) == number
            assert number - memory._pasts[0].tried < 3
        vector = np.zeros(8)  # 64 bytes
        memory.done([(0, [Call("0", "resident_hold", (vector,))])], [vector])
    assert known == [True] * 12 + [False] * 3
    assert memory.oldest(15) == 15
    first, last = (record.getMessage() for record in caplog.records)
    assert first.startswith("honest-0 will be made anew if the worker is lost")
    assert last.startswith("honest-0 will be lost with the worker")
