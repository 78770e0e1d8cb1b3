"""A worker that goes before a run has seen its nodes takes none of them away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dask
import pytest
import torch
from distributed import LocalCluster

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.checkpoint import Checkpoint
from byzflow.engine.node.actors import HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from byzflow.engine.rounds.answers import Reason
from tests.engine.forgiving import forgiving_cluster
from tests.engine.parameter_server.mortal import MortalHonest
from tests.engine.peer_to_peer.mortal import MortalPeer

NODES = 4


def server(nodes: list[Any], checkpoint: Any = None) -> ParameterServer:
    return ParameterServer(nodes, [], CoordinateWiseMedian(), quorum=1, checkpoint=checkpoint)


def peers(nodes: list[Any], checkpoint: Any = None) -> PeerToPeer:
    return PeerToPeer(nodes, [], Topology.complete(NODES), checkpoint=checkpoint)


modes = pytest.mark.parametrize(("make", "node"), [(server, MortalHonest), (peers, MortalPeer)])


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster]:
    with dask.config.set({"byzflow.comm.connect-timeout": "30s"}):
        async with forgiving_cluster(2) as cluster:
            yield cluster


async def spawned(node: Any, cluster: LocalCluster) -> list[Any]:
    return await HonestNodeActor.spawn_many([Recipe(node, (i,)) for i in range(NODES)], backend=cluster)


async def lose_one(cluster: LocalCluster) -> None:
    await next(iter(cluster.workers.values())).close()


async def ended(run: Any, nodes: list[Any]) -> list[torch.Tensor]:
    """Return the parameters of the nodes after two more rounds."""
    for _ in range(2):
        await run.round()
    told = [node.get_param_vector() for node in nodes]
    return [t if isinstance(t, torch.Tensor) else await t for t in told]


@modes
async def test_nodes_whose_worker_goes_before_the_first_round_are_made_anew(
    make: Any, node: Any, cluster: LocalCluster
) -> None:
    nodes, plain = await spawned(node, cluster), [node(i) for i in range(NODES)]
    async with make(nodes) as run, make(plain) as undisturbed:
        await lose_one(cluster)
        assert all(map(torch.equal, await ended(run, nodes), await ended(undisturbed, plain)))
        assert all(report.excluded == () for report in run.history)


async def test_a_node_that_somebody_has_called_is_not_made_anew_as_if_nobody_had(
    cluster: LocalCluster,
) -> None:
    nodes = await spawned(MortalHonest, cluster)
    for node in nodes:
        await node.apply_server_gradient(torch.ones(43))
    async with server(nodes) as run:
        await lose_one(cluster)
        await run.round()
        (report,) = run.history
        assert {item.reason for item in report.excluded} == {Reason.LOST}
        assert report.respawned == ()


@modes
async def test_a_run_is_resumed_though_a_worker_of_its_nodes_has_gone(
    make: Any, node: Any, cluster: LocalCluster, tmp_path: Path
) -> None:
    first, again = ([node(i) for i in range(NODES)] for _ in range(2))
    store = Checkpoint(tmp_path / "run.safetensors", every=2)
    async with make(first, store) as run:
        await ended(run, first)
    nodes = await spawned(node, cluster)
    async with make(nodes, store) as run, make(again, store) as undisturbed:
        await lose_one(cluster)
        assert (await run.resume(), await undisturbed.resume()) == (2, 2)
        assert all(map(torch.equal, await ended(run, nodes), await ended(undisturbed, again)))
        assert all(report.excluded == () for report in run.history)
