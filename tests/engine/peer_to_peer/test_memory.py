"""When the states of peers are kept."""

from __future__ import annotations

import dask
import numpy as np

from byzflow.engine.actor.calls import Call, Outcome
from byzflow.engine.node.calls import Roster
from byzflow.engine.peer_to_peer.memory import PeerMemory


class Away:
    """One peer in another process, of which only its state is asked."""

    def __init__(self):
        self.roster, self.gone, self.saved = Roster([]), set(), 0

    def __len__(self):
        return 1

    def is_here(self, index):
        return False

    def read(self, index, method):
        return Call(str(index), method)

    async def call(self, queues, deadline):
        self.saved += 1
        return {index: [Outcome(b"state")] for index in queues}


async def test_states_are_kept_sooner_when_the_vectors_since_take_too_much_memory():
    peers = Away()
    with dask.config.set({"byzflow.round.replay-memory": "100 B"}):
        memory = PeerMemory(peers, every=25)
    saved = []
    for number in range(5):
        await memory.keep(number, None)
        saved.append(peers.saved)
        vector = np.zeros(8)  # 64 bytes
        memory.done(0, [Call("0", "step", (vector,))], [vector])
    assert saved == [1, 1, 2, 2, 3]
    assert memory.oldest(5) == 4
