"""What makes no sense is refused where it is given, by its name, not later by what trips over it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.engine.graph.pool_channel import ActorPoolChannel
from byzflow.engine.node.application import NodeApplication
from byzflow.engine.node.distributed import DistributedByzantineNode, DistributedHonestNode
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from byzflow.exceptions import CheckpointError
from byzflow.operators.base import SubTask
from tests.engine.sine_node import SineNode

CONFIGS = [ActorPoolConfig("thread")]
MEDIAN = CoordinateWiseMedian()


class Honest(DistributedHonestNode):
    """A node that does nothing."""

    def next_batch(self) -> Any:
        return None, None

    def apply_server_gradient(self, vec: Any) -> None:
        pass


class Liar(DistributedByzantineNode):
    """A node that does nothing."""

    def apply_server_gradient(self, vec: Any) -> None:
        pass


def nodes() -> list[Any]:
    return [SineNode(0), SineNode(1)]


def peers(**options: Any) -> PeerToPeer:
    return PeerToPeer(nodes(), [], Topology.complete(2), **options)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "pool of a string": (lambda: ActorPool("thread"), TypeError, "configs must be a list of ActorPoolConfig"),  # type: ignore[arg-type]
    "pool of strings": (lambda: ActorPool(["thread"]), TypeError, "got str"),  # type: ignore[list-item]
    "negative count": (lambda: ActorPoolConfig("thread", count=-1), ValueError, "count must be at least 0"),
    "half a worker": (lambda: ActorPoolConfig("thread", count=1.5), TypeError, "count must be a whole"),  # type: ignore[arg-type]
    "application on a string": (lambda: NodeApplication(name="a", actor_pool="thread"), TypeError, "got str"),  # type: ignore[arg-type]
    "application on nothing": (lambda: NodeApplication(name="a", actor_pool=None), TypeError, "got NoneType"),  # type: ignore[arg-type]
    "pipeline of no graph": (
        lambda: NodeApplication(name="a", actor_pool=CONFIGS).register_pipeline("p", MEDIAN),  # type: ignore[arg-type]
        TypeError,
        "graph must be a ComputationGraph; got CoordinateWiseMedian",
    ),
    "no rule": (lambda: Honest(actor_pool=CONFIGS, aggregator=3), TypeError, "operator must be an object"),
    "no attack": (lambda: Liar(actor_pool=CONFIGS, attack=3), TypeError, "operator must be an object"),
    "server on a string": (
        lambda: ParameterServer(nodes(), [], MEDIAN, actor_pool="thread"),
        TypeError,
        "actor_pool must be an object with run_subtask()",
    ),
    "server of a number": (lambda: ParameterServer(3, [], MEDIAN), TypeError, "honest_nodes must be a seq"),  # type: ignore[arg-type]
    "peers of a number": (lambda: PeerToPeer(3, [], Topology.complete(2)), TypeError, "honest_nodes must be"),  # type: ignore[arg-type]
    "unknown weights": (lambda: peers(mixing="metropolitan"), ValueError, "mixing must be one of"),
    "no factory": (lambda: peers(context_factory=3), TypeError, "context_factory must be callable"),
    "edge of one end": (lambda: Topology(3, [(0,)]), ValueError, "An edge must be a pair"),  # type: ignore[list-item]
    "edge of a number": (lambda: Topology(3, [1]), ValueError, "An edge must be a pair"),  # type: ignore[list-item]
    "no networkx graph": (lambda: Topology.from_networkx(3), TypeError, "needs a networkx graph; got int"),
    "unknown worker": (
        lambda: ActorPoolChannel(name="news", channels={}, endpoints={}).channel("actor-9"),
        KeyError,
        "has the workers []; got 'actor-9'",
    ),
}


@pytest.mark.parametrize(("make", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_by_name(make: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        make()


async def test_one_config_is_a_pool_too() -> None:
    async with ActorPool(ActorPoolConfig("thread", count=2)) as pool:
        assert pool.size == 2
        assert await pool.run_subtask(SubTask(pow, (2, 5))) == 32


def test_whatever_awaits_has_a_sync_twin(tmp_path: Any) -> None:
    def server(**options: Any) -> ParameterServer:
        return ParameterServer(nodes(), [], MEDIAN, checkpoint=tmp_path / "run", **options)

    first = server()
    with pytest.raises(CheckpointError, match="no such file"):
        first.resume_sync()
    first.round_sync()
    first.shutdown_sync()
    with pytest.raises(RuntimeError, match="shut down"):
        first.round_sync()
