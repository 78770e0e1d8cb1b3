"""Time peer-to-peer rounds of a thousand nodes on two worker processes against the same arithmetic alone.

    python -m benchmarks.many_peers [--nodes 1000] [--d 1000] [--neighbors 8] [--node quadratic|softmax]
                                    [--rounds 9] [--json FILE]

Every node takes a half step, on a quadratic of its own or on softmax regression (see `many_nodes`), and
replaces its vector by the median of its own and those of its neighbours on a ring. "arithmetic" is a loop
over the same nodes in one thread of this process, which show each other the very same tensors. Rounds of
both are timed in turns and the medians compared. The calls to hosts are counted per round: they must not
grow with the number of nodes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import dask
import torch

from benchmarks.many_nodes import NODES, WORKERS, counted, parser_of, show
from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.engine.actor.runtime import Runtime
from byzflow.engine.node.actors import HonestNodeActor, Recipe
from byzflow.engine.peer_to_peer import PeerToPeer, Topology

LR = 0.1


class Peer:
    """Takes half steps along the gradients of a node of `many_nodes`, and mixes by the median."""

    def __init__(self, kind: str, seed: int, d: int) -> None:
        self.node = NODES[kind](seed, d)
        self.rule = CoordinateWiseMedian()

    def p2p_half_step(self, lr: float) -> torch.Tensor:
        gradient = self.node.honest_gradient_for_next_batch()
        self.node.w = self.node.w.detach() - lr * gradient
        return self.node.w

    def p2p_aggregate_and_set(
        self, self_theta_half: torch.Tensor, neighbor_vectors: Sequence[torch.Tensor]
    ) -> None:
        self.node.w = self.rule.aggregate([self_theta_half, *neighbor_vectors])

    def get_param_vector(self) -> torch.Tensor:
        return self.node.w


def bare_round(peers: Sequence[Peer], topology: Topology) -> None:
    """One round without an engine."""
    halves = [peer.p2p_half_step(LR) for peer in peers]
    for i, peer in enumerate(peers):
        peer.p2p_aggregate_and_set(halves[i], [halves[j] for j in topology.in_neighbors(i)])


async def contest(kind: str, nodes: int, d: int, neighbors: int, rounds: int) -> dict[str, Any]:
    """Return the median round times [seconds], and how many calls to hosts a round takes."""
    runtime = await Runtime.acquire("process")
    topology = Topology.ring(nodes, neighbors // 2)
    handles = await HonestNodeActor.spawn_many(
        [Recipe(Peer, (kind, i, d)) for i in range(nodes)], backend="process"
    )
    bare = [Peer(kind, i, d) for i in range(nodes)]
    times: dict[str, list[float]] = {"arithmetic": [], "byzflow": []}
    async with PeerToPeer(handles, [], topology, lr=LR) as run:
        await run.round()
        bare_round(bare, topology)
        with counted() as calls:
            for _ in range(rounds):
                start = time.perf_counter()
                await run.round()
                times["byzflow"].append(time.perf_counter() - start)
                start = time.perf_counter()
                bare_round(bare, topology)
                times["arithmetic"].append(time.perf_counter() - start)
        for handle, peer in zip(handles[:: nodes // 10], bare[:: nodes // 10], strict=True):
            assert torch.equal(await handle.get_param_vector(), peer.get_param_vector())
        phases = {k: median(r.seconds[k] for r in run.history[1:]) for k in run.history[0].seconds}
    await runtime.release()
    seconds = {key: median(values) for key, values in times.items()}
    return {
        "node": kind,
        "nodes": nodes,
        "d": d,
        "neighbors": neighbors,
        "seconds": seconds,
        "ratio": seconds["byzflow"] / seconds["arithmetic"],
        "phases": phases,
        "calls": sum(calls.values()) / rounds,
    }


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = parser_of(__doc__)
    parser.add_argument("--neighbors", type=int, default=8)
    parser.add_argument("--node", choices=tuple(NODES), nargs="+", default=["quadratic", "softmax"])
    options = parser.parse_args()
    rows = []
    with dask.config.set({"byzflow.cluster.workers": WORKERS}):
        for kind in options.node:
            case = contest(kind, options.nodes, options.d, options.neighbors, options.rounds)
            rows.append(asyncio.run(case))
            show(f"{options.nodes} peers ({kind}), {options.neighbors} neighbours each", rows[-1])
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
