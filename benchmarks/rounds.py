"""Time training rounds beside ByzPy's, on the same nodes.

    python -m benchmarks.rounds [--kind server complete ring] [--backend thread process] [--d 1000 1000000]
                                [--rounds 20] [--json FILE]

13 nodes (10 honest, 3 Byzantine) hand in float32 vectors. With a server, MultiKrum(f=3, q=5) aggregates;
peer to peer, on a complete graph or a ring, every honest node mixes by its own rule. There ByzPy does
not mix, and waits 0.1 s for delivery and 0.1 s for each Byzantine node. Both systems run in this
process, one after the other, in turns of whole blocks of rounds. The node classes are plain, so that what is
timed is the engine. "ready" is from nothing to the end of the first round.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.gossip import BYZANTINE, HONEST, byzflow_peers, byzpy_nodes, byzpy_peers


class Honest:
    """Hands in one fixed vector."""

    def __init__(self, seed: int, d: int) -> None:
        self.vector = torch.randn(d, generator=torch.Generator().manual_seed(seed))

    def honest_gradient_for_next_batch(self) -> torch.Tensor:
        return self.vector

    def apply_server_gradient(self, g: Any) -> None:
        self.last = g


class Byzantine(Honest):
    """Hands in the opposite of the honest mean's first vector."""

    def byzantine_gradient_for_next_batch(self, honest_grads: Sequence[Any]) -> torch.Tensor:
        return -torch.as_tensor(honest_grads[0])


async def byzflow_server(backend: str, d: int, kind: str) -> Any:
    from byzflow.aggregators.geometric_wise import MultiKrum
    from byzflow.engine.node.actors import ByzantineNodeActor, HonestNodeActor
    from byzflow.engine.parameter_server.ps import ParameterServer

    async with asyncio.TaskGroup() as group:
        honest = [
            group.create_task(HonestNodeActor.spawn(Honest, backend=backend, args=(i, d)))
            for i in range(HONEST)
        ]
        byzantine = [
            group.create_task(ByzantineNodeActor.spawn(Byzantine, backend=backend, args=(100 + i, d)))
            for i in range(BYZANTINE)
        ]
    nodes = [task.result() for task in honest], [task.result() for task in byzantine]
    return ParameterServer(*nodes, MultiKrum(f=3, q=5))


async def byzpy_server(backend: str, d: int, kind: str) -> Any:
    nodes = await byzpy_nodes(Honest, Byzantine, backend, d)
    krum = importlib.import_module("byzpy.aggregators.geometric_wise").MultiKrum
    server = importlib.import_module("byzpy.engine.parameter_server.ps").ParameterServer
    return server(*nodes, krum(f=3, q=5))


KINDS = {
    "server": (byzflow_server, byzpy_server),
    "complete": (byzflow_peers, byzpy_peers),
    "ring": (byzflow_peers, byzpy_peers),
}


async def contest(kind: str, backend: str, d: int, rounds: int) -> dict[str, Any]:
    """Return ready times and median round times [seconds] of both systems."""
    servers: dict[str, Any] = {}
    result: dict[str, Any] = {"kind": kind, "backend": backend, "d": d, "ready": {}, "round": {}}
    for name, build in zip(("byzflow", "byzpy"), KINDS[kind], strict=True):
        start = time.perf_counter()
        servers[name] = await build(backend, d, kind)
        await servers[name].round()
        result["ready"][name] = time.perf_counter() - start
    times: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(4):
        for name, server in servers.items():
            await server.round()
            for _ in range(max(1, rounds // 4)):
                start = time.perf_counter()
                await server.round()
                times[name].append(time.perf_counter() - start)
    result["round"] = {name: median(values) for name, values in times.items()}
    for server in servers.values():
        await server.shutdown()
    return result


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--backend", nargs="+", default=["thread", "process"])
    parser.add_argument("--d", type=int, nargs="+", default=[1000, 10**6])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    for kind, backend, d in product(options.kind, options.backend, options.d):
        result = asyncio.run(contest(kind, backend, d, options.rounds))
        results.append(result)
        for key in ("ready", "round"):
            ours, theirs = result[key]["byzflow"], result[key]["byzpy"]
            print(
                f"{kind} {backend} d={d} {key}: byzflow {ours * 1e3:.1f} ms, ByzPy {theirs * 1e3:.1f} ms, "
                f"ratio {theirs / ours:.1f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
