"""Rounds of a run are one at a time, on whichever loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from tests.engine.sine_node import SineNode


class Gated(SineNode):
    """Lets nobody pass until it is told."""

    began, gate = threading.Event(), threading.Event()

    def misbehave(self) -> None:
        self.began.set()
        assert self.gate.wait(30)


@pytest.mark.parametrize(
    "make",
    [
        lambda nodes: ParameterServer(nodes, [], CoordinateWiseMedian()),
        lambda nodes: PeerToPeer(nodes, [], Topology.complete(2)),
    ],
    ids=["server", "peers"],
)
def test_a_round_beside_another_of_the_same_run_waits_on_its_loop_and_is_refused_elsewhere(make: Any) -> None:
    Gated.began.clear()
    Gated.gate.clear()
    run = make([Gated(0), Gated(1)])
    other = threading.Thread(target=run.round_sync)
    other.start()
    assert Gated.began.wait(30)
    with pytest.raises(RuntimeError, match="one round at a time; another is under way"):
        run.round_sync()
    Gated.gate.set()
    other.join(30)

    async def side_by_side() -> None:
        await asyncio.gather(run.round(), run.round(), run.round())
        await run.shutdown()

    asyncio.run(side_by_side())
    assert [report.round for report in run.history] == [0, 1, 2, 3]
