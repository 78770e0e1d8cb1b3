"""Nodes whose answers and errors have code of their own, in rounds of both kinds: it runs nowhere else."""

from typing import Any

import pytest
import torch
from distributed import LocalCluster

from byzflow.aggregators.coordinate_wise import CoordinateWiseTrimmedMean
from byzflow.engine.node.actors import HonestNodeActor, Recipe
from byzflow.engine.parameter_server import ParameterServer
from byzflow.engine.peer_to_peer import PeerToPeer, Topology
from tests.engine.rounds.hostile import ACTS, Worker

N = len(ACTS) + 3
OPTIONS: dict[str, Any] = {
    "processes": False,
    "protocol": "tcp",
    "dashboard_address": ":0",
    "memory_limit": 0,
}


async def nodes(where: Any, acts: bool) -> list[Any]:
    if where is None:
        return [Worker(i, acts) for i in range(N)]
    return await HonestNodeActor.spawn_many([Recipe(Worker, (i, acts)) for i in range(N)], backend=where)


async def served(where: Any, acts: bool) -> tuple[list[torch.Tensor], list[list[str]]]:
    rule = CoordinateWiseTrimmedMean(f=1)
    async with ParameterServer(await nodes(where, acts), [], rule, deadline=20.0) as ps:
        got = [await ps.round() for _ in ACTS]
        return got, [[exclusion.node for exclusion in report.excluded] for report in ps.history]


async def exchanged(where: Any, acts: bool) -> tuple[list[Any], list[list[str]]]:
    async with PeerToPeer(await nodes(where, acts), [], Topology.complete(N), deadline=20.0) as p2p:
        for _ in ACTS:
            await p2p.round()
        told = [[report.norms, report.spread, report.consensus_distance] for report in p2p.history]
        return told, [[exclusion.node for exclusion in report.excluded] for report in p2p.history]


@pytest.mark.parametrize("run", [served, exchanged])
@pytest.mark.parametrize("home", ["plain", "thread", "tcp"])
async def test_hostile_answers_cost_what_an_error_costs(run: Any, home: str) -> None:
    expected, _ = await run(None, acts=False)
    if home == "tcp":
        async with LocalCluster(n_workers=2, threads_per_worker=1, asynchronous=True, **OPTIONS) as where:
            got, excluded = await run(where, acts=True)
    else:
        got, excluded = await run(None if home == "plain" else home, acts=True)
    assert [repr(a) for a in got] == [repr(b) for b in expected]
    assert excluded == [[f"honest-{i}"] for i in range(len(ACTS))]
